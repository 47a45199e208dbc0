"""A simulated BOLD run in scanner space: baseline, responses to the clips, head motion, drift and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation

Array = NDArray[np.float32]
THERMAL_NOISE = 0.008  # SD relative to the baseline
AUTOCORRELATION = 0.3
DRIFT = 0.01
PHYSIOLOGICAL_NOISE = 0.003
BREATHING, HEARTBEAT = 0.28, 1.1  # Hz
BACKGROUND_NOISE = 60.0  # intensity


def head_motion(n_volumes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw rigid motion per volume, relative to the first: slow wander and one small jump; (volumes, 6), mm and rad."""
    steps = rng.normal(0, 1, (n_volumes, 6)) * [0.025, 0.03, 0.04, 0.0004, 0.0003, 0.0003]
    path = ndimage.gaussian_filter1d(np.cumsum(steps, axis=0), 2, axis=0)
    jump = rng.integers(n_volumes // 4, 3 * n_volumes // 4)
    path[jump:] += rng.normal(0, 1, 6) * [0.12, 0.15, 0.25, 0.003, 0.002, 0.002]
    return path - path[0]


def rigid_matrix(motion: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Build the 4 x 4 matrix (mm) of translations (mm) and rotations (rad, about x, y, z through `centre`)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", motion[3:]).as_matrix()
    matrix[:3, 3] = motion[:3] + centre - matrix[:3, :3] @ centre
    return matrix


def simulate_run(
    baseline: Array,
    affine: NDArray[np.float64],
    maps: Array,
    brain: NDArray[np.bool_],
    courses: NDArray[np.float64],
    *,
    amplitude: float,
    tr: float,
    motion: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Simulate one run.

    The baseline, whose edges make motion visible, moves with the head; the responses, which are smooth over centimetres, do not.

    Args:
        baseline: (X, Y, Z) intensities.
        affine: voxel to scanner (mm).
        maps: (features, brain voxels) responses.
        brain: (X, Y, Z).
        courses: (volumes, features) convolved features.
        amplitude: signal change of a response of 1, relative to the baseline; 0 for no signal.
        tr: s.
        motion: (volumes, 6), mm and rad.
        rng: draws the noise.

    Returns:
        int16 (X, Y, Z, volumes).
    """
    n = len(courses)
    change = signal_change(maps, courses, amplitude=amplitude, tr=tr, rng=rng)
    coefficients = ndimage.spline_filter(baseline, order=3, output=np.float32, mode="mirror")
    inverse, centre = np.linalg.inv(affine), affine[:3, :3] @ ((np.array(baseline.shape) - 1) / 2) + affine[:3, 3]
    run = np.empty((*baseline.shape, n), np.int16)
    for k in range(n):
        pull = inverse @ np.linalg.inv(rigid_matrix(motion[k], centre)) @ affine
        volume = ndimage.affine_transform(coefficients, pull[:3, :3], pull[:3, 3], order=3, mode="mirror", prefilter=False)
        volume[brain] *= 1 + change[k]
        volume += rng.normal(0, BACKGROUND_NOISE, volume.shape).astype(np.float32)
        run[..., k] = np.clip(np.abs(volume), 0, 32767).round()
    return run


def signal_change(maps: Array, courses: NDArray[np.float64], *, amplitude: float, tr: float, rng: np.random.Generator) -> Array:
    """Simulate responses, drift, physiology and thermal noise of brain voxels, relative to the baseline: (volumes, brain voxels).

    Arguments are as in `simulate_run`.
    """
    n, voxels = len(courses), maps.shape[1]
    change = amplitude * (courses.astype(np.float32) @ maps) if amplitude else np.zeros((n, voxels), np.float32)
    change += _drift(n, voxels, rng) + _physiology(n, voxels, tr, rng) + _thermal(n, voxels, rng)
    return change


def _drift(n: int, voxels: int, rng: np.random.Generator) -> Array:
    """Draw slow cosines with amplitudes that differ between voxels."""
    times = (np.arange(n) + 0.5) / n
    slow = np.stack([np.cos(np.pi * k * times) for k in (1, 2, 3)], axis=1)
    return (slow @ rng.normal(0, DRIFT / 2, (3, voxels))).astype(np.float32)


def _physiology(n: int, voxels: int, tr: float, rng: np.random.Generator) -> Array:
    """Draw breathing and heartbeat, aliased by the TR, with a common phase and amplitudes that differ between voxels."""
    times = np.arange(n) * tr
    waves = np.stack([np.sin(2 * np.pi * f * times + rng.uniform(0, 2 * np.pi)) for f in (BREATHING, HEARTBEAT)], axis=1)
    return (waves @ (PHYSIOLOGICAL_NOISE * (1 + 0.3 * rng.normal(size=(2, voxels))))).astype(np.float32)


def _thermal(n: int, voxels: int, rng: np.random.Generator) -> Array:
    """Draw first-order autocorrelated noise."""
    white = rng.normal(0, THERMAL_NOISE * np.sqrt(1 - AUTOCORRELATION**2), (n, voxels)).astype(np.float32)
    return lfilter([1], [1, -AUTOCORRELATION], white, axis=0).astype(np.float32)
