"""Simulated BOLD written directly as cleaned series in template space, the end product, without scanner space or preprocessing.

Meant for hundreds of experiments (`boldscribe power`). The layout of patches, subjects' maps, HRF, drift, physiology and thermal
noise are those of the images that `boldscribe simulate` writes, followed by the pipeline's own smoothing and cleaning. The deformed
anatomy, head motion, and their correction are omitted. docs/power.md compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.data.drift import cosines
from boldscribe.data.placement import displacement_path, voxels_path
from boldscribe.data.series import clean, smooth
from boldscribe.data.template import SPACE, output_grid
from boldscribe.machinery.files import save_array
from boldscribe.machinery.reproducible import generator
from boldscribe.simulation.bold import BACKGROUND_NOISE, signal_change
from boldscribe.simulation.dataset import frame_times
from boldscribe.simulation.phantom import EPI_INTENSITY, Tissues, tissues_at, world_points
from boldscribe.simulation.responses import PEAK_RESPONSE, feature_matrix, response_delay, subject_maps, time_courses
from boldscribe.simulation.scenes import Scene
from boldscribe.simulation.truth import layout_of

TISSUE = 0.5  # minimum share of white matter, or of CSF, in the voxels whose means are regressed out


@dataclass(frozen=True)
class TemplateGrid:
    """Brain voxels of the output grid.

    Attributes:
        affine: voxel to template (mm).
        mask_XYZ: the brain.
        points: of its voxels (mm), (V, 3).
        tissues: of its voxels, (V,) each.
    """

    affine: NDArray[np.float64]
    mask_XYZ: NDArray[np.bool_]
    points: NDArray[np.float64]
    tissues: Tissues


@cache
def template_grid(resolution: float) -> TemplateGrid:
    """Return the brain in the grid that the embedded preprocessing writes at a resolution (mm)."""
    shape, affine = output_grid(resolution)
    points = world_points(shape, affine)
    mask_XYZ = tissues_at(points, shape).brain
    points = points[mask_XYZ.ravel()]
    return TemplateGrid(affine, mask_XYZ, points, tissues_at(points, (len(points), 1, 1)))


def write_simulated_series(
    config: Config, dataset: str, subject: str, scenes: dict[str, Scene], viewed: pd.DataFrame, output: Path
) -> None:
    """Write a subject's `sub-XX_bold.npy`, `sub-XX_voxels.npy` and `sub-XX_framewise_displacement.npy` as `write_series` does.

    Args:
        config: the experiment (`seed`, `simulation`, `preprocessing.resolution`, `bold`).
        dataset, subject: labels.
        scenes: what each clip shows, by `stim_file`.
        viewed: `run, onset` (s), `stim_file` of the subject's trials, in order.
        output: `sub-XX_bold.npy`.
    """
    grid = template_grid(config.preprocessing.resolution)
    rng = generator(config.seed, "simulation", dataset, subject)
    maps = subject_maps(layout_of(config), grid.points, grid.tissues.gm.ravel(), rng)
    delay = response_delay(rng)
    tr = config.simulation.repetition_time
    cleaned, runs = [], []
    for run, trials in viewed.groupby("run"):
        onsets = trials["onset"].to_numpy()
        times = frame_times(onsets, config.simulation)
        features = feature_matrix([scenes[clip] for clip in trials["stim_file"]])
        courses = time_courses(features, onsets, config.simulation.clip_seconds, times, delay)
        cleaned.append(simulate_cleaned_run(config, grid, maps, courses, rng))
        n = len(times)
        runs.append({"run": str(run), "first_volume": sum(map(len, cleaned[:-1])), "n_volumes": n, "repetition_time": tr})
        runs[-1] |= {"start_time": 0.0, "duration": n * tr}
    series_TV = np.concatenate(cleaned).astype(np.float16)
    save_array(
        output,
        series_TV,
        axes=["volume", "voxel"],
        units="standard deviations",
        dataset=dataset,
        subject=subject,
        space=SPACE,
        grid_shape=list(grid.mask_XYZ.shape),
        affine=grid.affine.tolist(),
        runs=runs,
        simulated=True,
    )
    voxels = np.flatnonzero(grid.mask_XYZ).astype(np.int32)
    save_array(voxels_path(output), voxels, axes=["voxel"], units="flat C-order index in grid_shape")
    save_array(displacement_path(output), np.zeros(len(series_TV), np.float32), axes=["volume"], units="mm")


def simulate_cleaned_run(
    config: Config, grid: TemplateGrid, maps: NDArray[np.float32], courses: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Simulate one run, smoothed, cleaned and z-scored: (volumes, V).

    Args:
        maps: (features, V) responses.
        courses: (volumes, features) convolved features.
        rng: draws the noise.
    """
    tr = config.simulation.repetition_time
    data_TV = signal_change(maps, courses, amplitude=PEAK_RESPONSE * config.simulation.snr, tr=tr, rng=rng)
    data_TV += rng.normal(0, BACKGROUND_NOISE / EPI_INTENSITY["gm"], data_TV.shape).astype(np.float32)
    tissue = [data_TV[:, share.ravel() > TISSUE].mean(1) for share in (grid.tissues.wm, grid.tissues.csf)]
    confounds_TK = np.column_stack([cosines(len(data_TV), tr), *tissue])
    if config.bold.smoothing_fwhm:
        data_TV = smooth(data_TV, grid.mask_XYZ, grid.affine, config.bold.smoothing_fwhm)
    return clean(data_TV, confounds_TK, np.ones(len(data_TV), bool), config.bold.clip_sigma)
