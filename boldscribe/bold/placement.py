"""Where things of a cleaned series are: its files beside it, its voxels in the tokenizer's grid.

Apart from the windows, so that steps which only ask this need not wait for torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGEST_LOSS = 0.05  # share of a brain's voxels that the tokenizer's grid may cut off


def voxels_path(series: Path) -> Path:
    """`sub-XX_voxels.npy` beside `sub-XX_bold.npy`."""
    return Path(series).with_name(Path(series).name.replace("_bold.npy", "_voxels.npy"))


def displacement_path(series: Path) -> Path:
    """`sub-XX_framewise_displacement.npy` beside `sub-XX_bold.npy`."""
    return Path(series).with_name(Path(series).name.replace("_bold.npy", "_framewise_displacement.npy"))


def place_in_grid(voxels: NDArray[np.int32], grid_shape: Sequence[int], grid: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Crop or pad symmetrically: the middle voxel (index n // 2 of each axis) of one grid falls on that of the other.

    Args:
        voxels: (V,) flat C-order index of each voxel in `grid_shape`.
        grid_shape: of the derivatives.
        grid: of the tokenizer.

    Returns:
        (K,) flat index in `grid` of the voxels inside it, and (V,) which these are.
    """
    shift = np.array(grid) // 2 - np.array(grid_shape) // 2
    index_3V = np.stack(np.unravel_index(voxels, tuple(grid_shape))) + shift[:, None]
    inside = ((index_3V >= 0) & (index_3V < np.array(grid)[:, None])).all(axis=0)
    return np.ravel_multi_index(tuple(index_3V[:, inside]), tuple(grid)).astype(np.int64), inside
