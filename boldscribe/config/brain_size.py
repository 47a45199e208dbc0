"""Size of the template's brain, by which a tokenizer grid is judged before there are any images."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

LARGEST_LOSS = 0.05  # share of a brain's voxels that the tokenizer's grid may cut off

# Where shares of the brain's voxels end along x, y and z (mm from the middle of the template's field of view): quantiles of the mask of
# MNI152NLin2009aSym (nilearn's copy) on fMRIPrep's grid of 2 mm.
SHARES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
ENDS = (
    (-71, -66, -64, -60, -58, -52, -44, -32, -22, 0, 22, 34, 46, 54, 58, 62, 64, 66, 73),
    (-89, -80, -78, -72, -70, -66, -56, -42, -30, -6, 20, 34, 54, 68, 74, 78, 82, 84, 91),
    (-89, -76, -74, -68, -66, -60, -50, -36, -26, -8, 10, 22, 34, 44, 48, 50, 54, 58, 65),
)


def share_outside(grid: Sequence[int], resolution: float) -> float:
    """Estimate the share of a template brain's voxels outside a grid, as `boldscribe.data.placement.place_in_grid` places it.

    The axes are taken as independent; where a few per cent are cut off, the estimate is right within one per cent.

    Args:
        grid: voxels along each axis.
        resolution: edge of a voxel (mm).
    """
    inside = 1.0
    for n, ends in zip(grid, ENDS, strict=True):
        first, last = -(n // 2) - 0.5, n - n // 2 - 0.5
        inside *= _share_below(last * resolution, ends) - _share_below(first * resolution, ends)
    return 1 - inside


def _share_below(position: float, ends: Sequence[float]) -> float:
    """Return the share of the voxels below a position (mm), linear between the quantiles."""
    if position <= ends[0] or position >= ends[-1]:
        return float(position >= ends[-1])
    i = bisect_left(ends, position)
    return SHARES[i - 1] + (SHARES[i] - SHARES[i - 1]) * (position - ends[i - 1]) / (ends[i] - ends[i - 1])


def fitting_grid(resolution: float, stages: int) -> tuple[int, int, int]:
    """Return the smallest grid that contains the whole brain and that the tokenizer's stride-2 stages divide.

    Args:
        resolution: edge of a voxel (mm).
        stages: of the tokenizer.
    """
    stride = 2**stages
    halves = (max(-ends[0] / resolution - 0.5, ends[-1] / resolution + 0.5) for ends in ENDS)
    x, y, z = (ceil(2 * half / stride) * stride for half in halves)
    return x, y, z
