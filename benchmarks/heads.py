"""Scans of a head whose shape, pose and motion are known: the template's brain in a skull, bent, moved, distorted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from nilearn.datasets import load_mni152_template
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from boldscribe.data.images import apply_affine, save_image
from boldscribe.preprocessing.itk import grid_points
from boldscribe.preprocessing.motion import rigid

Array = NDArray[np.float64]
CENTRE = np.array([0.0, -18.0, 10.0])
POSE = np.array([3.0, -4.0, 5.0, 0.06, -0.04, 0.05])  # of the head in the scanner: mm, rad
BEND, WAVELENGTH = 3.0, 150.0  # amplitude per axis and period of the bending (mm)
T1W_GRID = ((192, 224, 192), 1.0)
BOLD_GRID = ((100, 100, 72), 2.0)  # HAD's
TR, MULTIBAND = 2.0, 3
NOISE, PHYSIOLOGY, COIL = 80.0, 0.01, 0.25
ECHO_SPACING, ECHO_TIMES = 0.00054, (0.00492, 0.00738)  # s, HAD's


def grid(shape: tuple[int, int, int], voxel: float) -> Array:
    """Affine of a grid around the head."""
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = CENTRE - voxel * (np.array(shape) - 1) / 2
    return affine


def bend_by(amplitude: float) -> None:
    """Choose the amplitude of the bending in this process (mm per axis)."""
    global BEND
    BEND = amplitude


def bend(points_3N: Array) -> Array:
    """From the head's own coordinates to the template's (mm)."""
    x, y, z = points_3N * (2 * np.pi / WAVELENGTH)
    return points_3N + BEND * np.stack([np.sin(y + 0.4) * np.cos(z), np.sin(z - 0.7) * np.cos(x), np.sin(x + 1.1) * np.cos(y)])


def unbend(points_3N: Array) -> Array:
    """The inverse of `bend`, by fixed-point iteration."""
    found = points_3N
    for _ in range(60):
        found = found + points_3N - bend(found)
    return found


def template_to_scanner(points_3N: Array) -> Array:
    """Where template points lie in the scanner before the head moves (mm)."""
    return apply_affine(rigid(POSE, CENTRE), unbend(points_3N))


def scanner_to_template(points_3N: Array) -> Array:
    """The inverse of `template_to_scanner`."""
    return bend(apply_affine(np.linalg.inv(rigid(POSE, CENTRE)), points_3N))


def walk(n_volumes: int, seed: int = 5) -> Array:
    """Motion of a restless head, (T, 6) mm and rad, zero at the middle volume: drift, tremor, two jumps."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n_volumes, 6)) * [0.06, 0.06, 0.08, 0.0012, 0.0008, 0.0008]
    path = ndimage.gaussian_filter1d(np.cumsum(steps, axis=0), 1, axis=0)
    for start in (n_volumes // 4, 3 * n_volumes // 4):
        path[start:] += rng.normal(size=6) * [0.3, 0.3, 0.5, 0.006, 0.004, 0.004]
    return path - path[n_volumes // 2]


def field(points_3N: Array) -> Array:
    """Off-resonance (Hz) at points of the head at rest: above the frontal sinus, at the ear canals, and a slope."""
    hertz = 0.3 * points_3N[1]
    for height, centre, width in ((220.0, (3, 44, -8), 14.0), (-110.0, (-48, -22, -18), 12.0), (-110.0, (50, -22, -18), 12.0)):
        away = points_3N - np.array(centre)[:, None]
        hertz = hertz + height * np.exp(-np.square(away).sum(axis=0) / (2 * width**2))
    return hertz


def voxel_shift(points_3N: Array) -> Array:
    """Shift along the second voxel axis (voxels) that the field makes, with phase encoding `j-`."""
    return -field(points_3N) * ECHO_SPACING * BOLD_GRID[0][1]


def undistorted(index_3N: Array, to_rest: Array) -> tuple[Array, Array]:
    """Where the signal of a distorted volume's voxels comes from (voxel coordinates), and the volume that each takes there.

    Args:
        index_3N: voxel coordinates.
        to_rest: (4, 4) voxel coordinates of the volume to points of the head at rest.
    """
    true, step = index_3N.copy(), np.array([[0.0], [0.5], [0.0]])
    for _ in range(15):
        true[1] = index_3N[1] - voxel_shift(apply_affine(to_rest, true))
    up, down = (voxel_shift(apply_affine(to_rest, true + s)) for s in (step, -step))
    return true, 1 + up - down


@dataclass(frozen=True)
class Head:
    """Images of the head at rest, on the T1w grid."""

    motion: Array

    @cached_property
    def tissue(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """T1w intensity of the brain (0 outside it), and distance from it (mm), on the template's own grid."""
        brain = load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
        return brain, ndimage.distance_transform_edt(brain <= 0.05).astype(np.float32)

    def at_rest(self, contrast: str) -> NDArray[np.float32]:
        """The head with scalp, T1w or BOLD contrast, and with the shading of a coil."""
        affine = grid(*T1W_GRID)
        points = scanner_to_template(grid_points(T1W_GRID[0], affine).T)
        index = apply_affine(np.linalg.inv(load_mni152_template(resolution=1).affine), points)
        brain, distance = self.tissue
        scalp = 1.0 * ((distance > 8) & (distance <= 14))
        values = 900 * brain + 700 * scalp if contrast == "t1w" else 8000 * (1.6 - brain) * (distance == 0) + 2000 * scalp
        sampled = ndimage.map_coordinates(values.astype(np.float32), index, order=1, output=np.float32)
        shading = 1 + COIL * np.sin((points[1] + 40) / 70) * np.cos(points[2] / 80)
        return ndimage.gaussian_filter((sampled * shading).reshape(T1W_GRID[0]), 0.5).astype(np.float32)

    def write(self, folder: Path, distorted_volumes: int) -> None:
        """A raw BIDS subject: T1w of 1 mm; a run of HAD's size with its slice times; a shorter, distorted one with its field map."""
        rng = np.random.default_rng(7)
        t1w = self.at_rest("t1w") + rng.normal(0, 12, T1W_GRID[0])
        save_image(folder / "sub-01/anat/sub-01_T1w.nii.gz", t1w.astype(np.float32), grid(*T1W_GRID), dtype="int16")
        bold = self.at_rest("bold")
        coefficients = ndimage.spline_filter(bold, order=3, output=np.float32, mode="mirror")
        shape, affine = BOLD_GRID[0], grid(*BOLD_GRID)
        to_rest = np.linalg.inv(grid(*T1W_GRID))
        waves = rng.normal(size=(len(self.motion), 1, 1, shape[2]))
        slots = shape[2] // MULTIBAND
        order = [*range(0, slots, 2), *range(1, slots, 2)]
        sidecar = {
            "RepetitionTime": TR,
            "TaskName": "action",
            "SliceTiming": [TR * order.index(k % slots) / slots for k in range(shape[2])],
        }
        middle = len(self.motion) // 2
        for name, first, n, distorted in (
            ("01", 0, len(self.motion), False),
            ("02", middle - distorted_volumes // 2, distorted_volumes, True),
        ):
            run = np.empty((*shape, n), np.int16)
            for t in tqdm(range(n), f"simulation of run {name}", mininterval=5):
                back = np.linalg.inv(rigid(self.motion[first + t], CENTRE))
                index, stretch = np.indices(shape).reshape(3, -1).astype(float), np.ones(np.prod(shape))
                if distorted:
                    index, stretch = undistorted(index, back @ affine)
                volume = ndimage.map_coordinates(
                    coefficients, apply_affine(to_rest @ back @ affine, index), order=3, mode="mirror", prefilter=False, output=np.float32
                )
                volume = (volume / stretch).reshape(shape) * (1 + PHYSIOLOGY * waves[t]) + rng.normal(0, NOISE, shape)
                run[..., t] = np.clip(volume, 0, 32767).round()
            stem = folder / f"sub-01/func/sub-01_task-action_run-{name}_bold"
            save_image(f"{stem}.nii.gz", run, affine, tr=TR, dtype="int16")
            about = {"PhaseEncodingDirection": "j-", "EffectiveEchoSpacing": ECHO_SPACING} if distorted else {}
            Path(f"{stem}.json").write_text(json.dumps(sidecar | about))
        self.write_field_map(folder, coefficients, rng)

    def write_field_map(self, folder: Path, coefficients: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Phase difference and magnitude, on the grid of the BOLD runs, of run 02."""
        shape, affine = BOLD_GRID[0], grid(*BOLD_GRID)
        points = grid_points(shape, affine).T
        index = apply_affine(np.linalg.inv(grid(*T1W_GRID)), points)
        magnitude = ndimage.map_coordinates(coefficients, index, order=3, mode="mirror", prefilter=False).reshape(shape)
        hertz = field(points).reshape(shape)
        noise = rng.normal(0, 3 * NOISE, (4, *shape))
        echoes = [magnitude * np.exp(2j * np.pi * hertz * time) + noise[2 * i] + 1j * noise[2 * i + 1] for i, time in enumerate(ECHO_TIMES)]
        phase = np.angle(echoes[1] * echoes[0].conj())
        stem = folder / "sub-01/fmap/sub-01"
        save_image(f"{stem}_phasediff.nii.gz", (phase / np.pi * 4095).astype(np.int16), affine, dtype="int16")
        save_image(f"{stem}_magnitude1.nii.gz", np.abs(echoes[0]).astype(np.int16), affine, dtype="int16")
        about = {"EchoTime1": ECHO_TIMES[0], "EchoTime2": ECHO_TIMES[1], "IntendedFor": "func/sub-01_task-action_run-02_bold.nii.gz"}
        Path(f"{stem}_phasediff.json").write_text(json.dumps(about))
