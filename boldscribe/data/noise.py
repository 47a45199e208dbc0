"""Noise instead of BOLD: Gaussian windows with the moments of a subject's windows, for controls that decode or train on them.

A decoder that does as well on noise has learnt the style of captions and nothing about brains (Jo et al. 2024).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.data.placement import voxels_path
from boldscribe.data.presentations import REPEATS, mean_windows
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array, save_array
from boldscribe.machinery.reproducible import generator

COLUMNS = 20_000  # values of a window drawn at once, to bound memory


def write_noise_series(config: Config, dataset: str, subject: str, *, series: Path, trials: Path, noise: Path, noise_trials: Path) -> None:
    """Write a series with one noise window per trial, and the trial index that points to it.

    Windows of each role (`train`, `adapt`, `test`) have the mean and covariance of the subject's windows of that role.

    Args:
        config: the experiment (`seed`).
        dataset, subject: labels.
        series, trials: of the subject.
        noise: `sub-XX_bold.npy`; `sub-XX_voxels.npy` is written next to it.
        noise_trials: the trial index, with the same trials and roles.

    Raises:
        UserError: a role has fewer than two trials and hence no covariance.
    """
    table = pd.read_parquet(trials).reset_index(drop=True)
    bold_TV, header = load_array(series)
    n_volumes = int(table["n_volumes"].iloc[0])
    drawn = np.empty((len(table) * n_volumes, bold_TV.shape[1]), np.float16)
    for role, rows in table.groupby("role").groups.items():
        if len(rows) < 2:
            raise UserError(str(trials), f"role: found 1 trial with {role!r} for sub-{subject}, expected at least 2 to draw noise from")
        to = (rows.to_numpy()[:, None] * n_volumes + np.arange(n_volumes)).ravel()
        weights = mixing(len(rows), generator(config.seed, "noise", dataset, subject, str(role)))
        for start in range(0, bold_TV.shape[1], COLUMNS):
            part = slice(start, start + COLUMNS)
            windows = mean_windows(bold_TV, table.loc[rows], part).reshape(len(rows), -1)
            drawn[to, part] = matched_noise(windows, weights).reshape(len(to), -1)
    kept = {name: header[name] for name in ("dataset", "subject", "axes", "affine", "grid_shape", "space", "units") if name in header}
    with atomic(voxels_path(noise)) as part_path:
        shutil.copyfile(voxels_path(series), part_path)
    save_array(noise, drawn, **kept, noise=True)
    table = table.drop(columns=REPEATS, errors="ignore").assign(first_volume=np.arange(len(table)) * n_volumes)
    with atomic(noise_trials) as part_path:
        table.to_parquet(part_path, index=False)


def mixing(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the weights of n windows in each of n noise windows, (n, n); see `matched_noise`."""
    return (rng.standard_normal((n, n)) / np.sqrt(n - 1)).astype(np.float32)


def matched_noise(windows_ND: NDArray[np.float32], weights_NN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw Gaussian windows that match the mean and covariance over trials of all values.

    With w ~ N(0, 1), x̄ + Σ_i w_i (x_i − x̄) / √(n − 1) has the sample covariance of the n windows without forming it. Columns can be
    drawn in parts with the same weights.
    """
    mean = windows_ND.mean(0)
    return mean + weights_NN @ (windows_ND - mean)
