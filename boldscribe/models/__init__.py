"""Components of the paper's figure 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boldscribe.config import Config
    from boldscribe.machinery.steps.step_files import Files


def share_llm(config: Config, files: Files) -> None:
    """Load the LLM if it is among a step's inputs, for this process and its forks (`program(..., share=share_llm)`)."""
    if folders := [folder for folder in files["models"] if folder.name == "llm"]:
        from boldscribe.models.video_llama import load_llm

        load_llm(config, folders[0].parent)
