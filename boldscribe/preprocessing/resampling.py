"""Single interpolation from scanner to template space: motion, coregistration and warp are composed, not applied in sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from tqdm import tqdm

from boldscribe.data.images import apply_affine
from boldscribe.preprocessing.motion import MODE
from boldscribe.preprocessing.susceptibility import Distortion


def sample(volume: NDArray[np.float32], affine: NDArray[np.float64], points_3N: NDArray[np.float64], order: int = 3) -> NDArray[np.float32]:
    """Sample a volume at world points (mm); 0 outside its grid.

    Args:
        volume: (X, Y, Z).
        affine: voxel to world.
        points_3N: world coordinates as columns.
        order: of the spline; 1 is linear.
    """
    return sample_index(volume, apply_affine(np.linalg.inv(affine), points_3N), order)[0]


def sample_index(
    volume: NDArray[np.float32], index_3N: NDArray[np.float64], order: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sample a volume at voxel coordinates, 0 outside its grid; also return which points lie inside."""
    within = inside(index_3N, volume.shape)
    values = np.zeros(index_3N.shape[1], np.float32)
    values[within] = ndimage.map_coordinates(volume, index_3N[:, within], order=order, mode=MODE, output=np.float32)
    return values, within


def inside(index_3N: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which voxel coordinates lie in the grid, including its outer half voxel."""
    return np.asarray(((index_3N > -0.5) & (index_3N < np.array(shape[:3])[:, None] - 0.5)).all(axis=0))


def resample_run(
    bold_XYZT: NDArray[np.float32],
    affine: NDArray[np.float64],
    motion_T44: NDArray[np.float64],
    points_3N: NDArray[np.float64],
    description: str = "resampling",
    distortion: Distortion | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sample every volume at its own head position (cubic splines).

    Args:
        bold_XYZT: the run in scanner space.
        affine: voxel to world (mm).
        motion_T44: reference to volume, world coordinates (`motion.realign`).
        points_3N: world coordinates (mm) in the reference of each voxel of the output.
        description: for the progress bar.
        distortion: of the reference, if it is to be corrected. It moves with the head but keeps the scanner's direction;
            intensities are multiplied by the volume that a voxel takes in the distorted image.

    Returns:
        (N, T) series, and (N,) voxels that lie in the field of view of all volumes.
    """
    series_TN = np.empty((bold_XYZT.shape[3], points_3N.shape[1]), np.float32)
    covered = np.ones(points_3N.shape[1], bool)
    inverse_affine = np.linalg.inv(affine)
    shift_3N, stretch_N = distortion.at(affine, points_3N) if distortion else (None, None)
    for t in tqdm(range(len(series_TN)), desc=description, mininterval=5):
        index_3N = apply_affine(inverse_affine, apply_affine(motion_T44[t], points_3N))
        if shift_3N is not None:
            index_3N += shift_3N
        series_TN[t], within = sample_index(bold_XYZT[..., t], index_3N)
        if stretch_N is not None:
            series_TN[t] *= stretch_N
        covered &= within
    return series_TN.T, covered


def correct_slice_timing(
    bold_XYZT: NDArray[np.float32],
    slice_times: NDArray[np.float64],
    tr: float,
    axis: int = 2,
) -> tuple[NDArray[np.float32], float]:
    """Shift every slice to the middle of the acquisition, as fMRIPrep does (its default, `--slice-time-ref 0.5`).

    Natural cubic splines are linear in the data, so one (T, T) matrix per distinct slice time handles all voxels.

    Args:
        bold_XYZT: the run.
        slice_times: acquisition time of each slice from the start of its volume (s).
        tr: repetition time (s).
        axis: of the slices.

    Returns:
        the run, and the time (s) that its volumes now refer to, from the start of each volume (`StartTime`).
    """
    reference = float(slice_times.min() + slice_times.max()) / 2
    n_volumes = bold_XYZT.shape[3]
    frames = np.arange(n_volumes) * tr
    corrected = np.moveaxis(np.empty_like(bold_XYZT), axis, 0)
    slices = np.moveaxis(bold_XYZT, axis, 0)
    for time in np.unique(slice_times):
        # hold the end values, since a spline diverges outside its knots
        wanted = np.clip(frames + reference, frames[0] + time, frames[-1] + time)
        weights = CubicSpline(frames + time, np.eye(n_volumes), bc_type="natural")(wanted).astype(np.float32)
        chosen = slice_times == time
        corrected[chosen] = slices[chosen] @ weights.T
    return np.moveaxis(corrected, 0, axis), reference
