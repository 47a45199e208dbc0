"""Judgement of the connectors on rendered clips unseen in training, their record, and the page about them."""

from __future__ import annotations

import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.machinery.files import sha256_of
from boldscribe.machinery.provenance.versions import code_version
from boldscribe.machinery.reproducible import derive_seed, generator
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.video_llama import Connectors
from boldscribe.simulation.scenes import VOCABULARY, Scene, describe

FIELDS = ("action", "actor", "colour", "place")
SECTIONS = ("connectors", "video_llama", "stimuli", "simulation")


def judge(
    config: Config,
    model: Connectors,
    llm: PromptedLlm,
    visual: NDArray[np.float16],
    scenes: list[Scene],
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Caption unseen clips greedily; return the share that names each field correctly, and (truth, caption) of the first clips."""
    with torch.inference_mode():
        parts = np.array_split(np.arange(len(scenes)), math.ceil(len(scenes) / config.video_llama.batch_size))
        tokens = torch.cat([model.llama_proj(model(torch.from_numpy(visual[rows]).float())) for rows in parts])
    rng = generator(config.seed, "connectors", "judge")
    instructions = [str(i) for i in rng.choice(config.video_llama.instructions, len(scenes))]
    captions = llm.generate(
        instructions, tokens, max_new_tokens=config.video_llama.max_new_tokens, batch_size=config.video_llama.batch_size
    )
    right = {f: float(np.mean([names(c, s, f) for c, s in zip(captions, scenes, strict=True)])) for f in FIELDS}
    right["all four"] = float(np.mean([all(names(c, s, f) for f in FIELDS) for c, s in zip(captions, scenes, strict=True)]))
    return right, [(describe(s, rng), c) for s, c in zip(scenes[:6], captions, strict=False)]


def names(caption: str, scene: Scene, field: str) -> bool:
    """Return whether a caption names a field's true value and no other ("man" is not found in "woman")."""
    words = f" {caption.lower().replace('.', ' ').replace(',', ' ')} "
    return [v for v in VOCABULARY[field] if f" {v} " in words] == [getattr(scene, field)]


def record_of(
    config: Config,
    models_dir: Path,
    out_dir: Path,
    losses: dict[str, list[float]],
    accuracy: dict[str, float],
    texts: list[tuple[str, str]],
) -> dict[str, Any]:
    """Return what the connectors were made from and how well they caption, as JSON."""
    weights = {a: sha256_of(models_dir / a / "model.safetensors") for a in ("llm", "visual_encoder", "sentence_encoder")}
    return {
        "made_by": "rule train_connectors",
        "accuracy_on_unseen_clips": accuracy,
        "examples": [{"truth": t, "caption": c} for t, c in texts],
        "losses_per_epoch": losses,
        "sha256": sha256_of(out_dir / "connectors.safetensors"),
        "inputs_sha256": weights,
        "config": {s: getattr(config, s).model_dump(mode="json") for s in SECTIONS},
        "seed": config.seed,
        "derived_seed": derive_seed(config.seed, "connectors"),
        "code": code_version("train_connectors"),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()},
    }


def readme(record: dict[str, Any]) -> str:
    """Write the page about the connectors from their record."""
    n_train, n_test = record["config"]["connectors"]["n_clips"], record["config"]["connectors"]["n_test_clips"]
    rows = "\n".join(f"| {field} | {100 * share:.1f} |" for field, share in record["accuracy_on_unseen_clips"].items())
    examples = "\n".join(f"| {e['truth']} | {e['caption']} |" for e in record["examples"])
    return f"""# Connectors of the miniature Video-LLaMA

`connectors.safetensors` holds the image Q-Former, the frame positions, the video Q-Former and the projection between two frozen
models: EfficientNet-Lite0 and SmolLM2-135M-Instruct. They were trained by `make connectors` on {n_train:,} rendered clips
that no data set uses; `connectors.json` is the record. `familiar.safetensors` tells which clips are unlike those rendered clips
(docs/captioners.md). This page is written by the same command.

## How often captions are right

Greedy captions of {n_test} rendered clips unseen in training, in percent: the true value is named, and no other.

| named correctly | % |
| --- | --- |
{rows}

## The first unseen clips

| truth | caption |
| --- | --- |
{examples}
"""
