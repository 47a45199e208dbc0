"""SC-MBM, sparse-coded masked brain modelling (paper 3.1, after MinD-Vis): a vision transformer pretrained as a masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Size, Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from boldscribe.config.model_settings import ScMbmSettings, TokenizerSettings
from boldscribe.machinery.errors import UserError
from boldscribe.models.tokenizer import Tokenizer
from boldscribe.models.weight_files import fill, load_weights, shapes

PREFIX = "sc_mbm."
CONVERT = "convert the published weights again (docs/weights.md)"


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value are separate maps, so that the query can be adapted."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x_BND: Tensor) -> Tensor:
        q, k, v = (m(x_BND).unflatten(2, (self.n_heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear maps with GELU between them."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.expand, self.contract = nn.Linear(dim, int(dim * ratio)), nn.Linear(int(dim * ratio), dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(torch.nn.functional.gelu(self.expand(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, n_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention, self.mlp = Attention(dim, n_heads), Mlp(dim, mlp_ratio)

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attention(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


class ScMbm(nn.Module):
    """The encoder's blocks and final norm."""

    def __init__(self, config: ScMbmSettings) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(config.dim, config.n_heads, config.mlp_ratio) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Encode tokens (B, N, dim)."""
        return self.norm(self.blocks(tokens_BND))


def start_blocks(encoder: ScMbm, path: Path, config: ScMbmSettings) -> None:
    """Initialise the encoder's blocks and norm from converted weights (`boldscribe convert sc-mbm`).

    The tokenizer keeps its random initialisation: the published encoders read lists of voxels, whose patches and positions are
    meaningless after a 3-D CNN.

    Raises:
        UserError: as `check_blocks`, or a tensor is missing or unknown.
    """
    check_blocks(path, config)
    state = {k.removeprefix(PREFIX): v.float() for k, v in load_weights(path, CONVERT)[0].items() if k.startswith(PREFIX)}
    fill(encoder, state, str(path), f"all tensors of an encoder; {CONVERT}")
    encoder.train().requires_grad_(True)


def check_blocks(path: Path, config: ScMbmSettings) -> None:
    """Check the sizes of converted weights against the configuration, reading only the header.

    Raises:
        UserError: the file is missing or damaged, holds something else, or blocks of another width, depth or MLP ratio.
    """
    given = {k.removeprefix(PREFIX): shape for k, shape in shapes(path, CONVERT).items() if k.startswith(PREFIX)}
    if not {"norm.weight", "blocks.0.mlp.expand.weight"} <= given.keys():
        raise UserError(str(path), f"found no tensors named {PREFIX}norm and {PREFIX}blocks, expected those of an encoder; {CONVERT}")
    if problems := size_problems(given, config):
        raise UserError(str(path), *problems)


def size_problems(shapes: Mapping[str, Size], config: ScMbmSettings) -> list[str]:
    """Describe how the sizes of an encoder differ from the configured ones, and what to set.

    Args:
        shapes: of its tensors by name (`ScMbm.state_dict`).
    """
    dim, hidden = shapes["norm.weight"][0], shapes["blocks.0.mlp.expand.weight"][0]
    ratio = config.mlp_ratio if int(dim * config.mlp_ratio) == hidden else hidden / dim
    depth = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
    found = {"dim": dim, "depth": depth, "mlp_ratio": ratio}
    differing = [name for name, size in found.items() if size != getattr(config, name)]
    problems = [f"sc_mbm.{name}: found {found[name]:g}, configured {getattr(config, name):g}" for name in differing]
    return [*problems, "set " + ", ".join(f"sc_mbm.{name}: {size:g}" for name, size in found.items())] if problems else []


class MaskedAutoencoder(nn.Module):
    """Pretraining model that restores the voxels under masked tokens from the unmasked ones.

    Args:
        config: encoder and decoder.
        tokenizer: grid and channels.
        n_volumes: T.
    """

    def __init__(self, config: ScMbmSettings, tokenizer: TokenizerSettings, n_volumes: int) -> None:
        super().__init__()
        self.mask_ratio = config.mask_ratio
        self.tokenizer = Tokenizer(tokenizer, n_volumes, config.dim)
        self.encoder = ScMbm(config)
        self.to_decoder = nn.Linear(config.dim, config.decoder_dim)
        self.mask_token = nn.Parameter(torch.randn(config.decoder_dim) * 0.02)
        self.decoder_positions = nn.Parameter(torch.randn(1, self.tokenizer.n_tokens, config.decoder_dim) * 0.02)
        blocks = (Block(config.decoder_dim, config.n_heads, config.mlp_ratio) for _ in range(config.decoder_depth))
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(config.decoder_dim))
        self.to_voxels = nn.Linear(config.decoder_dim, n_volumes * self.tokenizer.stride**3)

    def forward(self, bold_BTXYZ: Tensor) -> Tensor:
        """Mean squared error over the brain voxels under masked tokens.

        Masked cubes are blanked before the CNN, whose overlapping receptive fields would otherwise leak them to their neighbours.
        Values of exactly 0 are excluded. z-scored BOLD is 0 where it was not measured (docs/data.md): outside this person's brain or
        before the steady state. Other people's brains and other scanners' fields of view have their zeros elsewhere.
        """
        cubes_BNV = self.tokenizer.cubes(bold_BTXYZ)
        B, N, _ = cubes_BNV.shape
        n_kept = N - round(N * self.mask_ratio)
        kept = torch.rand(B, N).argsort(1).argsort(1).to(bold_BTXYZ.device) < n_kept
        tokens = self.tokenizer(self._blank(bold_BTXYZ, kept))
        encoded = self.encoder(tokens[kept].view(B, n_kept, -1))
        full = self.mask_token.expand(B, N, -1).clone()
        full[kept] = self.to_decoder(encoded).flatten(0, 1).to(full.dtype)
        restored_MV = self.to_voxels(self.decoder(full + self.decoder_positions)[~kept])
        hidden_MV = cubes_BNV[~kept]
        measured_MV = hidden_MV != 0
        return ((restored_MV - hidden_MV).square() * measured_MV).sum() / measured_MV.sum().clamp(min=1)

    def _blank(self, bold_BTXYZ: Tensor, kept_BN: Tensor) -> Tensor:
        s = self.tokenizer.stride
        coarse = kept_BN.view(len(kept_BN), 1, *(n // s for n in bold_BTXYZ.shape[2:])).float()
        return bold_BTXYZ * interpolate(coarse, scale_factor=s, mode="nearest")
