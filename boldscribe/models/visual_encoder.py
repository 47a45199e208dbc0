"""The frozen visual encoder: frames to a grid of tokens."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from boldscribe.errors import UserError
from boldscribe.models.weight_files import load_weights

REMEDY = "run the rule fetch_model again, or correct video_llama.visual_encoder"
# Statistics of ImageNet's RGB values, with which EfficientNet-Lite0 was trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 up to its last feature map.

    Args:
        folder: model.safetensors and config.json, as `boldscribe.models.embedded` unpacks them.
    """

    width = 1280

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(load_weights(folder / "model.safetensors", REMEDY)[0])
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, frames_BHWC: Tensor) -> Tensor:
        """Encode uint8 RGB frames (B, height, width, 3) to tokens (B, height/32 · width/32, 1280)."""
        images = frames_BHWC.permute(0, 3, 1, 2).float() / 255
        features: Tensor = self.network.extract_features((images - self.mean) / self.std)
        return features.flatten(2).transpose(1, 2)


def load_visual_encoder(folder: Path) -> EfficientNetLite:
    """Load the visual encoder of a folder by its config.json.

    Raises:
        UserError: a model type that is not supported.
    """
    if not (folder / "config.json").exists():
        raise UserError(str(folder / "config.json"), f"the file is missing; {REMEDY}")
    model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    if model_type != "efficientnet-lite0":
        raise UserError(str(folder / "config.json"), f"model_type: found {model_type!r}, expected 'efficientnet-lite0'")
    return EfficientNetLite(folder)
