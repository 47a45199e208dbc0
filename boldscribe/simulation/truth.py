"""Ground truth of the voxels in which simulated brains carry signal, for comparison with an information map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.machinery.reproducible import generator
from boldscribe.simulation.phantom import tissues_at, world_points
from boldscribe.simulation.responses import common_layout, patches

HALF = 0.5  # share of a patch's peak from which a voxel counts as inside it


def layout_of(config: Config) -> NDArray[np.float64]:
    """Return the centres of an experiment's patches in template coordinates (mm), common to all its subjects and data sets."""
    return common_layout(generator(config.seed, "simulation", "layout"))


def responsive_voxels(config: Config, shape: Sequence[int], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the voxels of a template-space grid that are inside a patch of the common layout, (X, Y, Z); subjects deviate by millimetres.

    Args:
        config: the experiment (`seed`).
        shape, affine: of the grid; voxel to template (mm).
    """
    grid = (int(shape[0]), int(shape[1]), int(shape[2]))
    points, layout = world_points(grid, affine), layout_of(config)
    maps = patches(layout, np.ones(layout.shape[:2]), points, tissues_at(points, grid).gm.ravel())
    return (maps.max(0) >= HALF).reshape(grid)
