"""Locations for a cleaned series: its companion files, and its voxels in the tokenizer's grid.

Separate from `windows`, so that steps that need only these do not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def voxels_path(series: Path) -> Path:
    """Return the path of `sub-XX_voxels.npy` next to `sub-XX_bold.npy`."""
    return Path(series).with_name(Path(series).name.replace("_bold.npy", "_voxels.npy"))


def displacement_path(series: Path) -> Path:
    """Return the path of `sub-XX_framewise_displacement.npy` next to `sub-XX_bold.npy`."""
    return Path(series).with_name(Path(series).name.replace("_bold.npy", "_framewise_displacement.npy"))


def place_in_grid(voxels: NDArray[np.int32], grid_shape: Sequence[int], grid: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Crop or pad symmetrically: the middle voxels (index n // 2 of each axis) of both grids coincide.

    Args:
        voxels: (V,) flat C-order index of each voxel in `grid_shape`.
        grid_shape: of the derivatives.
        grid: of the tokenizer.

    Returns:
        (K,) flat index in `grid` of the voxels inside it, and a (V,) mask of these voxels.
    """
    shift = np.array(grid) // 2 - np.array(grid_shape) // 2
    index_3V = np.stack(np.unravel_index(voxels, tuple(grid_shape))) + shift[:, None]
    inside = ((index_3V >= 0) & (index_3V < np.array(grid)[:, None])).all(axis=0)
    return np.ravel_multi_index(tuple(index_3V[:, inside]), tuple(grid)).astype(np.int64), inside
