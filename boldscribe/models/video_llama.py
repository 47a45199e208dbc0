"""Video-LLaMA, rebuilt from its parts (paper 3.1): visual encoder, image Q-Former, frame positions, video Q-Former, projection, LLM.

The video side ends in x_BLD, L tokens of width d from the video Q-Former. The fMRI side ends in tokens of the same shape from
the same Q-Former, so that one projection and one LLM serve both.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from boldscribe.config import Config
from boldscribe.config.model_settings import VideoLlamaSettings
from boldscribe.machinery.errors import UserError
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.q_former import QFormer, image_q_former, video_q_former
from boldscribe.models.visual_encoder import VisualEncoder, load_visual_encoder
from boldscribe.models.weight_files import M, fill, load_weights

MAX_FRAMES = 32  # number of Video-LLaMA's frame positions


class FrameTokens(nn.Module):
    """Map from visual tokens to L tokens per frame, plus the frame's position: the frozen input of the video Q-Former."""

    def __init__(self, config: VideoLlamaSettings, encoder_width: int) -> None:
        super().__init__()
        self.image_q_former = image_q_former(config.q_former, encoder_width)
        self.frame_positions = nn.Embedding(MAX_FRAMES, config.q_former.hidden_size)

    def forward(self, visual_BTND: Tensor) -> Tensor:
        """Map (B, T, N, encoder_width) to (B, T·L, d)."""
        B, T = visual_BTND.shape[:2]
        tokens = self.image_q_former(visual_BTND.flatten(0, 1)).unflatten(0, (B, T))
        positions = self.frame_positions(torch.arange(T, device=tokens.device))
        return (tokens + positions[None, :, None]).flatten(1, 2)


class Connectors(nn.Module):
    """Modules between the frozen visual encoder and the frozen LLM, trained by `make connectors`."""

    def __init__(self, config: VideoLlamaSettings, encoder_width: int, llm_width: int) -> None:
        super().__init__()
        self.frame_tokens = FrameTokens(config, encoder_width)
        self.video_q_former = video_q_former(config.q_former)
        self.llama_proj = nn.Linear(config.q_former.hidden_size, llm_width)

    def forward(self, visual_BTND: Tensor) -> Tensor:
        """Map visual tokens to x_BLD."""
        return self.video_q_former(self.frame_tokens(visual_BTND))


def encode_frames(encoder: VisualEncoder, frames_BTHWC: Tensor) -> Tensor:
    """Encode uint8 frames (B, T, height, width, 3) to visual tokens (B, T, N, width)."""
    B, T = frames_BTHWC.shape[:2]
    return encoder(frames_BTHWC.flatten(0, 1)).unflatten(0, (B, T))


def load_llm(config: Config, models_dir: Path) -> PromptedLlm:
    """Load the frozen LLM with its prompt."""
    return PromptedLlm.load(config.video_llama, model_folder(config.video_llama.llm, "llm", models_dir))


def load_encoder(config: Config, models_dir: Path) -> VisualEncoder:
    """Load the frozen visual encoder."""
    return load_visual_encoder(model_folder(config.video_llama.visual_encoder, "visual_encoder", models_dir))


def load_frame_tokens(config: Config, encoder_width: int) -> FrameTokens:
    """Load the frozen image Q-Former with frame positions."""
    return _load(FrameTokens(config.video_llama, encoder_width), _trained(config, "frame_tokens."), config.video_llama.connectors)


def load_video_q_former(config: Config) -> QFormer:
    """Load the frozen video Q-Former, shared by video and fMRI."""
    return _load(video_q_former(config.video_llama.q_former), _trained(config, "video_q_former."), config.video_llama.connectors)


def load_projection(config: Config) -> nn.Linear:
    """Load the projection from Q-Former tokens to the LLM's embeddings, `llama_proj`."""
    state = _trained(config, "llama_proj.")
    module = nn.Linear(config.video_llama.q_former.hidden_size, state["weight"].shape[0])
    return _load(module, state, config.video_llama.connectors)


def model_folder(configured: str, asset: str, models_dir: Path) -> Path:
    """Folder of a model: the unpacked one if it is embedded, else the configured one.

    Raises:
        UserError: the folder is missing.
    """
    folder = models_dir / asset if configured == "embedded" else Path(configured)
    if not folder.is_dir():
        raise UserError(
            str(folder),
            f"the weights of {asset} are missing: expected a folder with config.json and .safetensors files; run the rule "
            "fetch_model, or correct the path in the configuration",
        )
    return folder


def _trained(config: Config, prefix: str) -> dict[str, Tensor]:
    state, _ = load_weights(config.video_llama.connectors, "run `make connectors` to train the miniature's again")
    return {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}


def _load(module: M, state: dict[str, Tensor], origin: str) -> M:
    return fill(module, state, origin, "a file made for the configured q_former")
