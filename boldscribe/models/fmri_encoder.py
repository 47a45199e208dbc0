"""The fMRI side of figure 1: tokenizer, SC-MBM, projection, and the video Q-Former shared with the video side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.models.adaptor import METHOD, add_adaptors, load_adaptors
from boldscribe.models.sc_mbm import ScMbm
from boldscribe.models.tokenizer import Tokenizer
from boldscribe.models.video_llama import load_video_q_former
from boldscribe.models.weight_files import load_weights


class FmriEncoder(nn.Module):
    """Encoder from BOLD windows to z_BLD, tokens with the shape and space of the video's x_BLD."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(config.tokenizer, config.bold.n_volumes, config.sc_mbm.dim)
        self.sc_mbm = ScMbm(config.sc_mbm)
        widths = config.video_llama.q_former
        self.to_q_former = TokenProjection(
            self.tokenizer.n_tokens, config.sc_mbm.dim, config.stimuli.n_frames * widths.n_queries, widths.hidden_size
        )
        self.q_former = load_video_q_former(config)
        self.dropout = nn.Dropout1d(config.stage1.dropout)

    def train(self, mode: bool = True) -> FmriEncoder:
        """Set the mode, but keep the frozen Q-Former in evaluation mode: its dropout would add to the configured one."""
        super().train(mode)
        self.q_former.eval()
        return self

    def forward(self, bold_BTXYZ: Tensor) -> Tensor:
        """Encode windows (B, T, X, Y, Z); dropout in training drops whole tokens."""
        tokens = self.sc_mbm(self.dropout(self.tokenizer(bold_BTXYZ)))
        return cast(Tensor, self.q_former(self.to_q_former(tokens)))


class TokenProjection(nn.Module):
    """Projection of super-voxel tokens to the number and width of a clip's tokens, which the Q-Former was trained to read."""

    def __init__(self, n_in: int, dim_in: int, n_out: int, dim_out: int) -> None:
        super().__init__()
        self.mix = nn.Linear(n_in, n_out)
        self.widen = nn.Linear(dim_in, dim_out)
        self.norm = nn.LayerNorm(dim_out)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Map (B, n_in, dim_in) to (B, n_out, dim_out)."""
        return self.norm(self.widen(self.mix(tokens_BND.transpose(1, 2)).transpose(1, 2)))


def new_encoder(config: Config, sc_mbm: Path) -> PeftModel:
    """Build an encoder for Stage I: pretrained tokenizer and blocks, frozen Q-Former, new adaptors and projection.

    The tokenizer, the projection and the adaptors are trainable.

    Raises:
        UserError: the pretrained weights do not fit the configured shapes.
    """
    encoder = FmriEncoder(config)
    state, _ = load_weights(sc_mbm, "pretrain SC-MBM again")
    for part, prefix in ((encoder.tokenizer, "tokenizer."), (encoder.sc_mbm, "sc_mbm.")):
        given = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        expected = part.state_dict()
        shapes = [{k: v.shape for k, v in state.items()} for state in (expected, given)]
        if wrong := sorted(k for k in expected.keys() | given.keys() if shapes[0].get(k) != shapes[1].get(k)):
            raise UserError(
                str(sc_mbm), f"weights do not fit {type(part).__name__} ({', '.join(wrong[:4])}); pretrain again with this configuration"
            )
        part.load_state_dict(given)
    model = add_adaptors(encoder, config.adaptor)
    encoder.tokenizer.requires_grad_(True)
    encoder.to_q_former.requires_grad_(True)
    return model


def save_encoder(model: PeftModel, folder: Path) -> None:
    """Write the encoder of Stage I: `fmri_encoder.safetensors` (frozen blocks included) and `adaptors/` (PEFT)."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = model.get_base_model()
    state = {k.replace(".base_layer", ""): v.contiguous() for k, v in encoder.state_dict().items() if _own(k)}
    with atomic(folder / "fmri_encoder.safetensors") as part:
        save_file(state, part)
    (folder / "adaptors").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder) as part:  # PEFT does not write atomically
        model.save_pretrained(part)
        for file in Path(part).iterdir():
            file.replace(folder / "adaptors" / file.name)


def load_encoder(config: Config, folder: Path) -> nn.Module:
    """Load the encoder of a finished Stage I, frozen and in evaluation mode.

    Raises:
        UserError: weights or adaptors do not fit the configuration.
    """
    encoder = FmriEncoder(config)
    state, _ = load_weights(folder / "fmri_encoder.safetensors", "run Stage I again")
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or any(_own(k) for k in missing):
        raise UserError(
            str(folder), f"weights do not fit the configured encoder: missing {missing}, unexpected {unexpected}; run Stage I again"
        )
    model: nn.Module = load_adaptors(encoder, folder / "adaptors", config.adaptor)
    return model.eval().requires_grad_(False)


def _own(name: str) -> bool:
    """True if a weight belongs to the encoder itself, not to the shared Q-Former or an adaptor."""
    return not name.startswith("q_former.") and METHOD not in name


@torch.no_grad()
def encode_in_batches(model: nn.Module, load: Callable[[range], Tensor], n: int, batch_size: int) -> Tensor:
    """Encode n windows in batches to (n, L, d); `load` maps indices to windows."""
    encode = [model(load(range(i, min(i + batch_size, n)))) for i in range(0, n, batch_size)]
    return torch.cat(encode)
