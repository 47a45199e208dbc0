"""Susceptibility distortion of echo-planar images, from a phase-difference map.

A field offset of f (Hz) shifts a voxel by f times the readout duration along the phase-encoding axis of an echo-planar image. The sign
follows BIDS and SDCFlows: with `PhaseEncodingDirection` `j`, a higher field moves the signal to a higher index of the stored image;
with `j-`, to a lower one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from boldscribe.data.images import apply_affine
from boldscribe.preprocessing.itk import grid_points

Volume = NDArray[np.float32]
TURN = 2 * np.pi
# successive smoothing widths (mm) of the field fit; the first extend the field across gaps and beyond the brain
SCALES = (32.0, 16.0, 8.0, 4.0, 4.0, 2.5)
WEAK = 0.02
SPIKE = 0.25


def wrap(phase: NDArray[Any]) -> NDArray[Any]:
    """Wrap phase (rad) to −π to π."""
    return np.asarray(phase - TURN * np.round(phase / TURN))


def to_radians(values: Volume, units: str | None = None) -> Volume:
    """Scale a scanner's phase image to −π to π, assuming that its values span exactly one turn, as SDCFlows does.

    Args:
        values: (X, Y, Z), the whole image, since noise in the air covers all values.
        units: `Units` of the sidecar; `rad` is not rescaled.
    """
    if units == "rad":
        return np.asarray(wrap(values), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - (low + high) / 2) * (TURN / max(high - low, 1e-6)), dtype=np.float32)


def unwrap(phase: Volume, mask: NDArray[np.bool_]) -> Volume:
    """Unwrap phase in three dimensions along the most reliable paths (Herráez et al. 2002; Abdul-Rahman et al. 2007).

    Neighbouring voxels are joined in ascending order of their second differences, which gives a minimum spanning tree. Along it no
    step is larger than π. The overall multiple of a turn is chosen so that the median is nearest to 0.

    Args:
        phase: (X, Y, Z) rad.
        mask: one region, connected by faces.

    Returns:
        (X, Y, Z) rad, 0 outside the mask.
    """
    roughness = np.zeros(phase.shape)
    for axis in range(3):
        step = wrap(np.diff(phase, axis=axis, append=np.take(phase, [-1], axis)))
        roughness += np.square(wrap(step - np.roll(step, 1, axis)))
    number = np.full(phase.shape, -1)
    number[mask] = np.arange(np.count_nonzero(mask))
    starts, ends = [], []
    for axis in range(3):
        near, far = np.moveaxis(number, axis, 0)[:-1].ravel(), np.moveaxis(number, axis, 0)[1:].ravel()
        both = (near >= 0) & (far >= 0)
        starts.append(near[both])
        ends.append(far[both])
    start, end = np.concatenate(starts), np.concatenate(ends)
    values, rough = phase[mask].astype(np.float64), roughness[mask]
    # a cost of 0 would mean no edge in the sparse graph
    cost = 1e-6 + rough[start] + rough[end]
    tree = minimum_spanning_tree(sparse.coo_matrix((cost, (start, end)), shape=(len(values),) * 2).tocsr())
    order, previous = breadth_first_order(tree, int(rough.argmin()), directed=False)
    jumps = np.zeros(len(values))
    jumps[order[1:]] = np.round((values[previous[order[1:]]] - values[order[1:]]) / TURN)
    turns = jumps.tolist()
    for voxel, before in zip(order[1:].tolist(), previous[order[1:]].tolist(), strict=True):
        turns[voxel] += turns[before]
    unwrapped = values + TURN * np.array(turns)
    result = np.zeros(phase.shape, np.float32)
    result[mask] = unwrapped - TURN * np.round(np.median(unwrapped) / TURN)
    return result


def _fit(field: Volume, weight: Volume, zooms: NDArray[np.float64]) -> Volume:
    estimate = np.full(field.shape, np.average(field, weights=weight), np.float32)
    for scale in SCALES:
        sigma = scale / zooms
        support = ndimage.gaussian_filter(weight, sigma, mode="constant")
        residual = ndimage.gaussian_filter(weight * (field - estimate), sigma, mode="constant")
        estimate += residual / (support + WEAK * float(weight.mean()))
    return estimate


def smooth_field(field: Volume, weight: Volume, zooms: NDArray[np.float64], period: float) -> Volume:
    """Remove noise and spikes from a field, and extrapolate it smoothly beyond the measured region.

    Fits weighted Gaussian averages of the residual, from coarse to fine. Voxels are excluded if they differ from their local median
    by more than a quarter of the field that turns the phase once.

    Args:
        field: (X, Y, Z) Hz.
        weight: (X, Y, Z), squared magnitude (the precision of phase); 0 where nothing was measured.
        zooms: voxel edges (mm).
        period: 1 / difference of the echo times (Hz).
    """
    filled = np.where(weight > 0, field, _fit(field, weight, zooms))
    spike = np.abs(field - ndimage.median_filter(filled, 3)) > SPIKE * period
    return _fit(field, np.where(spike, np.float32(0), weight), zooms)


def field_map(
    phase: Volume,
    magnitude: Volume,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    echo_times: tuple[float, float],
) -> Volume:
    """Estimate the field (Hz) from the phase difference between two gradient echoes.

    Args:
        phase: (X, Y, Z) rad, wrapped.
        magnitude: (X, Y, Z), of the first echo.
        mask: voxels with signal.
        affine: voxel to world (mm).
        echo_times: s.
    """
    labels, n = ndimage.label(mask)
    if n > 1:
        mask = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    delta = echo_times[1] - echo_times[0]
    hertz = unwrap(phase, mask) / np.float32(TURN * delta)
    typical = float(np.median(magnitude[mask]))
    weight = np.where(mask, np.square(np.clip(magnitude / typical, 0.05, 2)), 0).astype(np.float32)
    return smooth_field(hertz, weight, np.linalg.norm(affine[:3, :3], axis=0), 1 / abs(delta))


@dataclass(frozen=True)
class Readout:
    """Readout of an echo-planar image.

    Attributes:
        axis: voxel axis of phase encoding.
        seconds: shift per field (voxels per Hz): effective echo spacing times the number of lines; negative for directions like `j-`.
    """

    axis: int
    seconds: float


@dataclass(frozen=True)
class Distortion:
    """Shifts of undistorted voxels in the distorted image, on the grid of the BOLD reference.

    Attributes:
        axis: voxel axis of phase encoding.
        shift: (X, Y, Z) voxels along it.
    """

    axis: int
    shift: Volume

    @property
    def stretch(self) -> Volume:
        """Volume of a voxel in the distorted image; intensities there must be multiplied by it (Jacobian, at least 0)."""
        return np.asarray(np.maximum(1 + np.gradient(self.shift, axis=self.axis), 0), dtype=np.float32)

    def at(self, affine: NDArray[np.float64], points_3N: NDArray[np.float64]) -> tuple[NDArray[np.float64], Volume]:
        """Return shift (3, N) in voxels and stretch (N,) at undistorted world points (mm)."""
        index_3N = apply_affine(np.linalg.inv(affine), points_3N)
        shift_3N = np.zeros_like(index_3N)
        shift_3N[self.axis] = ndimage.map_coordinates(self.shift, index_3N, order=1, mode="nearest")
        return shift_3N, ndimage.map_coordinates(self.stretch, index_3N, order=1, mode="nearest")

    def undo(self, volume: Volume) -> Volume:
        """Remove the distortion from an image on the grid of the reference."""
        index = np.indices(volume.shape).astype(np.float64)
        index[self.axis] += self.shift
        return np.asarray(ndimage.map_coordinates(volume, index, order=3, mode="nearest", output=np.float32) * self.stretch)


def distortion_of_field(
    field: Volume,
    field_affine: NDArray[np.float64],
    to_field: NDArray[np.float64],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    readout: Readout,
) -> Distortion:
    """Return the distortion that a field causes in BOLD.

    Args:
        field: (X', Y', Z') Hz.
        field_affine: voxel to world of the map (mm).
        to_field: (4, 4) world coordinates of BOLD to those of the map.
        shape, affine: grid of the BOLD reference.
        readout: of BOLD.
    """
    index_3N = apply_affine(np.linalg.inv(field_affine) @ to_field, grid_points(shape, affine).T)
    hertz = ndimage.map_coordinates(field, index_3N, order=1, mode="nearest", output=np.float32)
    return Distortion(readout.axis, (hertz * np.float32(readout.seconds)).reshape(shape))
