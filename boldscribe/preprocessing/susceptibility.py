"""Susceptibility distortion of echo-planar images, from a phase-difference map.

Where the field is off by f (Hz), an echo-planar image shows a voxel f times the readout's duration further along its phase-encoding
axis. The sign is BIDS' and SDCFlows': with `PhaseEncodingDirection` `j` a higher field moves the signal to a higher index of the stored
image, with `j-` to a lower one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from boldscribe.preprocessing.itk import grid_points
from boldscribe.preprocessing.motion import apply_affine

Volume = NDArray[np.float32]
TURN = 2 * np.pi
# widths (mm) at which the field is fitted, one after the other; the first carry it across gaps and beyond the brain
SCALES = (32.0, 16.0, 8.0, 4.0, 4.0, 2.5)
WEAK = 0.02
SPIKE = 0.25


def wrap(phase: NDArray[Any]) -> NDArray[Any]:
    """Phase (rad) in −π to π."""
    return np.asarray(phase - TURN * np.round(phase / TURN))


def to_radians(values: Volume, units: str | None = None) -> Volume:
    """A scanner's phase image in −π to π; its units run over one turn between its smallest and largest value, as SDCFlows takes it.

    Args:
        values: (X, Y, Z), the whole image, since noise in the air covers all values.
        units: `Units` of the sidecar; `rad` is taken as it is.
    """
    if units == "rad":
        return np.asarray(wrap(values), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - (low + high) / 2) * (TURN / max(high - low, 1e-6)), dtype=np.float32)


def unwrap(phase: Volume, mask: NDArray[np.bool_]) -> Volume:
    """Three-dimensional phase unwrapping along the most reliable paths (Herráez et al. 2002; Abdul-Rahman et al. 2007).

    Voxels are joined to their neighbours, those with the smallest second differences first: that is a minimum spanning tree, along
    which no step is larger than π. The field's multiple of a turn is the one whose median is nearest to 0.

    Args:
        phase: (X, Y, Z) rad.
        mask: one connected region (faces).

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
    # a stored 0 would be no edge
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
    """A field without noise and spikes, continued smoothly beyond where it was measured.

    Weighted Gaussian averages of what is left, from coarse to fine. Voxels that differ from the median around them by a quarter of the
    field that turns the phase once are left out.

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
    """The field (Hz) from the difference of phase between two gradient echoes.

    Args:
        phase: (X, Y, Z) rad, wrapped.
        magnitude: (X, Y, Z), of the first echo.
        mask: where there is signal.
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
    """How an echo-planar image was read out.

    Attributes:
        axis: voxel axis of phase encoding.
        seconds: shift per field (voxels per Hz): effective echo spacing times the number of lines, negative for `j-` and the like.
    """

    axis: int
    seconds: float


@dataclass(frozen=True)
class Distortion:
    """Where an undistorted voxel appears, on the grid of the BOLD reference.

    Attributes:
        axis: voxel axis of phase encoding.
        shift: (X, Y, Z) voxels along it.
    """

    axis: int
    shift: Volume

    @property
    def stretch(self) -> Volume:
        """Volume that a voxel takes in the distorted image, by which the intensity there must be multiplied (Jacobian, at least 0)."""
        return np.asarray(np.maximum(1 + np.gradient(self.shift, axis=self.axis), 0), dtype=np.float32)

    def at(self, affine: NDArray[np.float64], points_3N: NDArray[np.float64]) -> tuple[NDArray[np.float64], Volume]:
        """Shift (3, N) voxels and stretch (N,) at undistorted world points (mm)."""
        index_3N = apply_affine(np.linalg.inv(affine), points_3N)
        shift_3N = np.zeros_like(index_3N)
        shift_3N[self.axis] = ndimage.map_coordinates(self.shift, index_3N, order=1, mode="nearest")
        return shift_3N, ndimage.map_coordinates(self.stretch, index_3N, order=1, mode="nearest")

    def undo(self, volume: Volume) -> Volume:
        """An image on the grid of the reference, without its distortion."""
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
    """The distortion that a field makes in BOLD.

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
