"""ANTs, seeded and on one thread; the only module that imports it.

ITK's registrations are not reproducible with more threads or without its seed variable; both must be set before ITK is loaded.
ITK's world axes point left and posterior (LPS), NIfTI's right and anterior (RAS).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
os.environ["ANTS_RANDOM_SEED"] = "1"
import ants

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_ants(data: NDArray[Any], affine: NDArray[np.float64]) -> ants.ANTsImage:
    """Convert a volume on a NIfTI grid (affine without shear) to an ANTs image."""
    lps = FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(data, dtype=np.float32), origin=lps[:3, 3].tolist(), spacing=spacing.tolist(), direction=lps[:3, :3] / spacing
    )


def affine_matrix(transform_file: str) -> NDArray[np.float64]:
    """Read an ITK affine or rigid transform file as a matrix (4, 4) on RAS world coordinates (mm), fixed to moving."""
    transform = ants.read_transform(transform_file)
    centre = np.array(transform.fixed_parameters)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.parameters[:9]).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.parameters[9:]) + centre - matrix[:3, :3] @ centre
    return FLIP @ matrix @ FLIP


def transform_points(points_N3: NDArray[np.float64], transforms: Sequence[str], invert: Sequence[bool]) -> NDArray[np.float64]:
    """Map RAS world points (mm) through ITK transforms, given in ANTs' order.

    The forward transforms of a registration map points of the fixed image to those of the moving one.
    """
    frame = pd.DataFrame(points_N3 * [-1, -1, 1], columns=["x", "y", "z"])
    moved = ants.apply_transforms_to_points(3, frame, list(transforms), whichtoinvert=list(invert))
    return np.asarray(moved[["x", "y", "z"]], dtype=np.float64) * [-1, -1, 1]


def grid_points(shape: Sequence[int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the world coordinates (mm) of all voxels of a grid, (voxels in C order, 3)."""
    index = np.indices(tuple(shape)).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).T


def isotropic_grid(image: nib.Nifti1Image, zoom: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and affine of the grid of `zoom` mm with the field of view and axes of an image."""
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    shape = tuple(int(np.ceil(n * z / zoom)) for n, z in zip(image.shape[:3], zooms, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = image.affine[:3, :3] / zooms * zoom
    corner = image.affine[:3, :3] @ [-0.5, -0.5, -0.5] + image.affine[:3, 3]
    affine[:3, 3] = corner + affine[:3, :3] @ [0.5, 0.5, 0.5]
    return (shape[0], shape[1], shape[2]), affine
