"""The frozen visual encoder: frames to a grid of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from transformers import Blip2VisionConfig, Blip2VisionModel

from boldscribe.machinery.errors import UserError
from boldscribe.models.weight_files import fill, load_weights

REMEDY = "run the rule fetch_model again, or correct video_llama.visual_encoder"


class VisualEncoder(nn.Module):
    """Encoder of uint8 RGB frames (B, height, width, 3) to tokens (B, N, width).

    Args:
        width: width of the tokens.
        mean, std: of the RGB values (0 to 1) that the encoder was trained with.
    """

    def __init__(self, width: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.width = width
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalised(self, frames_BHWC: Tensor) -> Tensor:
        """Normalise frames to images (B, 3, height, width) of zero mean and unit variance."""
        return (frames_BHWC.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


class EfficientNetLite(VisualEncoder):
    """EfficientNet-Lite0 up to its last feature map: height/32 · width/32 tokens of width 1280.

    Args:
        folder: model.safetensors and config.json, as unpacked by `boldscribe.models.embedded_models`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(1280, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(load_weights(folder / "model.safetensors", REMEDY)[0])
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, frames_BHWC: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(self.normalised(frames_BHWC))
        return features.flatten(2).transpose(1, 2)


class EvaClip(VisualEncoder):
    """Video-LLaMA's encoder: EVA-CLIP g/14 without its last block, plus BLIP-2's norm; 257 tokens of width 1408 per frame.

    As in Video-LLaMA, a GPU multiplies in float16 and accumulates in float32; a CPU computes in float32.

    Args:
        folder: model.safetensors and config.json, as written by `boldscribe convert video-llama`.
    """

    NORM_EPS = 1e-5  # of BLIP-2's `ln_vision`; the blocks' norms use 1e-6, but transformers has one value for both

    def __init__(self, folder: Path) -> None:
        config = Blip2VisionConfig.from_pretrained(folder)
        super().__init__(config.hidden_size, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))  # CLIP's
        self.size = config.image_size
        with torch.device("meta"):
            network = Blip2VisionModel(config)
        network.post_layernorm.eps = self.NORM_EPS
        state = {name: tensor.float() for name, tensor in load_weights(folder / "model.safetensors", REMEDY)[0].items()}
        self.network = fill(network, state, str(folder / "model.safetensors"), "the file that belongs to its config.json")
        self.eval()

    @torch.inference_mode()
    def forward(self, frames_BHWC: Tensor) -> Tensor:
        if frames_BHWC.shape[1:3] != (self.size, self.size):
            found = " × ".join(str(n) for n in frames_BHWC.shape[1:3])
            raise UserError(
                "stimuli.size", f"found frames of {found} pixels, expected {self.size}, which the visual encoder was trained with"
            )
        device = frames_BHWC.device.type
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            return cast(Tensor, self.network(self.normalised(frames_BHWC)).last_hidden_state.float())


ENCODERS: dict[str, Callable[[Path], VisualEncoder]] = {"efficientnet-lite0": EfficientNetLite, "blip_2_vision_model": EvaClip}


def load_visual_encoder(folder: Path) -> VisualEncoder:
    """Load the visual encoder that a folder's config.json names.

    Raises:
        UserError: the model type is not supported, or the weights are missing, damaged or of another model.
    """
    if not (folder / "config.json").exists():
        raise UserError(str(folder / "config.json"), f"the file is missing; {REMEDY}")
    model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    if model_type not in ENCODERS:
        raise UserError(
            str(folder / "config.json"), f"model_type: found {model_type!r}, expected {' or '.join(repr(name) for name in ENCODERS)}"
        )
    return ENCODERS[model_type](folder)
