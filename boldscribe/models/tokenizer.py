"""The spatio-temporal tokenizer (paper 3.1): a 3-D CNN turns T whole-brain volumes into a sequence of super-voxel tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boldscribe.config.model_settings import TokenizerSettings


class Tokenizer(nn.Module):
    """Stride-2 convolutions with the T volumes as channels, followed by position embeddings.

    Args:
        config: grid and channels.
        n_volumes: T.
        dim: width of the tokens.
    """

    def __init__(self, config: TokenizerSettings, n_volumes: int, dim: int) -> None:
        super().__init__()
        widths = [n_volumes, *config.channels]
        stages: list[nn.Module] = []
        for i in range(len(config.channels)):
            stages += [nn.Conv3d(widths[i], widths[i + 1], 3, stride=2, padding=1), nn.GroupNorm(1, widths[i + 1]), nn.GELU()]
        self.stages = nn.Sequential(*stages)
        self.stride = 2 ** len(config.channels)
        x, y, z = (n // self.stride for n in config.grid)
        self.n_tokens = x * y * z
        self.to_tokens: nn.Module = (
            LocalLinear(self.n_tokens, widths[-1], dim) if config.token_maps == "local" else nn.Linear(widths[-1], dim)
        )
        self.positions = nn.Parameter(torch.randn(1, self.n_tokens, dim) * 0.02)

    def forward(self, bold_BTXYZ: Tensor) -> Tensor:
        """Map windows (B, T, X, Y, Z) to tokens (B, N, dim)."""
        return self.to_tokens(self.stages(bold_BTXYZ).flatten(2).transpose(1, 2)) + self.positions

    def cubes(self, bold_BTXYZ: Tensor) -> Tensor:
        """Return the voxels under each token: (B, N, T · stride³), in token order."""
        B, T, X, Y, Z = bold_BTXYZ.shape
        s = self.stride
        blocks = bold_BTXYZ.view(B, T, X // s, s, Y // s, s, Z // s, s).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return blocks.reshape(B, self.n_tokens, T * s**3)


class LocalLinear(nn.Module):
    """A separate linear map for each token: convolutions share weights across the brain, but its regions differ in function."""

    def __init__(self, n_tokens: int, width: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_tokens, width, dim) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_tokens, dim))

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Map (B, N, width) to (B, N, dim)."""
        return torch.einsum("bnc,ncd->bnd", x_BNC, self.weight) + self.bias
