"""Anatomy of a simulated subject in scanner space: the deformed template, and the head around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Array = NDArray[np.float32]
TEMPLATE_RESOLUTION = 2  # mm
SKULL, SCALP = (3.0, 8.0), (8.0, 14.0)  # distance from the brain (mm)
T1W_INTENSITY = {"brain": 900.0, "skull": 60.0, "scalp": 700.0}
EPI_INTENSITY = {"gm": 8000.0, "wm": 6500.0, "csf": 10500.0, "scalp": 2500.0}


@dataclass(frozen=True)
class Tissues:
    """Template maps sampled at some points: shares of tissue, T1w contrast (0 to 1) and distance from the brain (mm)."""

    gm: Array
    wm: Array
    t1w: Array
    distance: Array

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Mask of the brain."""
        return self.distance <= 0

    @property
    def csf(self) -> Array:
        """Share of tissue in the brain that is neither grey nor white matter."""
        return np.where(self.brain, np.clip(1 - self.gm - self.wm, 0, 1), 0).astype(np.float32)


@cache
def _template() -> tuple[NDArray[np.float64], dict[str, Array]]:
    """Load the affine of the template, and its maps on one grid."""
    t1w = load_mni152_template(TEMPLATE_RESOLUTION)
    maps = {
        "t1w": t1w.get_fdata(dtype=np.float32),
        "gm": load_mni152_gm_template(TEMPLATE_RESOLUTION).get_fdata(dtype=np.float32),
        "wm": load_mni152_wm_template(TEMPLATE_RESOLUTION).get_fdata(dtype=np.float32),
    }
    mask = np.asarray(load_mni152_brain_mask(TEMPLATE_RESOLUTION).dataobj) > 0
    maps["distance"] = (ndimage.distance_transform_edt(~mask) * TEMPLATE_RESOLUTION).astype(np.float32)
    return t1w.affine, maps


def grey_matter_points() -> NDArray[np.float64]:
    """Return the template coordinates (mm) of the voxels that are mostly grey matter: (points, 3)."""
    affine, maps = _template()
    return np.argwhere(maps["gm"] > 0.6) @ affine[:3, :3].T + affine[:3, 3]


class Anatomy:
    """Deviation of a subject's head from the template: size, position, and a smooth deformation.

    Args:
        rng: draws the subject.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        rotation = Rotation.from_euler("xyz", rng.normal(0, 3, 3), degrees=True).as_matrix()
        self._linear = rotation @ np.diag(rng.normal(1, 0.03, 3))
        self._shift = rng.normal(0, 4, 3)
        self._waves = rng.normal(0, 1 / 60, (6, 3))  # cycles per mm: bends over centimetres
        self._phases = rng.uniform(0, 2 * np.pi, 6)
        self._bends = rng.normal(0, 1.0, (6, 3))  # mm

    def to_template(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert scanner coordinates (mm) to template coordinates (mm), both (points, 3)."""
        moved = points @ self._linear.T + self._shift
        return moved + np.sin(2 * np.pi * moved @ self._waves.T + self._phases) @ self._bends


def tissues_at(template_points: NDArray[np.float64], shape: tuple[int, int, int]) -> Tissues:
    """Sample the template maps at template coordinates (points, 3), as arrays of `shape`; outside the template there is air."""
    affine, maps = _template()
    index = (template_points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    outside = {"t1w": 0.0, "gm": 0.0, "wm": 0.0, "distance": 100.0}
    sampled = {name: ndimage.map_coordinates(maps[name], index.T, order=1, cval=value) for name, value in outside.items()}
    return Tissues(**{name: values.astype(np.float32).reshape(shape) for name, values in sampled.items()})


def world_points(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the world coordinates (mm) of a grid's voxels in C order: (voxels, 3)."""
    return np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]


def centred_affine(
    shape: tuple[int, int, int],
    voxel_size: float,
    tilt: tuple[float, float, float],
    centre: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Build the affine (mm) of a grid with its middle at `centre`, tilted about x, y, z (degrees) as scans are."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() * voxel_size
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _between(distance: Array, limits: tuple[float, float]) -> NDArray[np.bool_]:
    return (distance > limits[0]) & (distance <= limits[1])


def t1w_image(tissues: Tissues, rng: np.random.Generator) -> Array:
    """Simulate T1w intensities: brain, dark skull, bright scalp, with receive bias and noise."""
    image = T1W_INTENSITY["brain"] * np.where(tissues.brain, tissues.t1w, 0)
    image = image + T1W_INTENSITY["skull"] * _between(tissues.distance, SKULL) + T1W_INTENSITY["scalp"] * _between(tissues.distance, SCALP)
    image = ndimage.gaussian_filter(image.astype(np.float32), 0.5) * _bias(image.shape, rng)
    return np.abs(image + rng.normal(0, 12, image.shape)).astype(np.float32)


def epi_image(tissues: Tissues, rng: np.random.Generator) -> Array:
    """Simulate noise-free T2*-weighted intensities: bright CSF, white matter darker than grey, faint scalp."""
    brain = EPI_INTENSITY["gm"] * tissues.gm + EPI_INTENSITY["wm"] * tissues.wm + EPI_INTENSITY["csf"] * tissues.csf
    image = np.where(tissues.brain, brain, 0) + EPI_INTENSITY["scalp"] * _between(tissues.distance, SCALP)
    return (ndimage.gaussian_filter(image.astype(np.float32), 0.4) * _bias(image.shape, rng)).astype(np.float32)


def _bias(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw a smooth multiplicative field of the receive coils, within about 20 %."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    slopes = rng.uniform(-0.12, 0.12, 3)
    return np.exp(sum(s * x + 0.05 * x**2 for s, x in zip(slopes, axes, strict=True)), dtype=np.float32)
