"""One cleaned series per subject from derivatives: masked, confounds regressed out, z-scored.

Reads the output of both fMRIPrep and the embedded workflow, since they use the same names.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset, PretrainingSet
from boldscribe.data.betas import separate_responses, standardised, trial_regressors
from boldscribe.data.events import run_events, stimulus_events, with_onset, within_run
from boldscribe.data.images import image_data, load_image
from boldscribe.data.placement import displacement_path, voxels_path
from boldscribe.data.runs import Run, common_mask, read_runs
from boldscribe.data.time_steps import average, time_steps
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, header_path, save_array, write_json

log = logging.getLogger(__name__)
RESPONSE_SECONDS = 12.0  # from onset to the end of the peak


def write_series(
    config: Config,
    design: Dataset | PretrainingSet,
    dataset: str,
    subject: str,
    derivatives_dir: Path,
    output: Path,
    *,
    seconds_per_volume: float | None = None,
    lead_in: float = 0.0,
) -> None:
    """Write `sub-XX_bold.npy` with header, `sub-XX_voxels.npy` and `sub-XX_framewise_displacement.npy` (docs/data.md).

    Voxels are those in the masks of all runs. Per run, volumes are smoothed if configured; motion, tissue, cosine and trend
    regressors are removed in one projection; then each voxel is z-scored and clipped. Volumes before the steady state
    (`non_steady_state_outlier`) are excluded from this and set to 0, the mean. Runs sampled faster than a given time step are averaged
    to it after cleaning. With `bold.signal: lss` the rows are trial responses instead of volumes, fitted with the same regressors
    (`boldscribe.data.betas`) and z-scored over the trials of the run.

    Args:
        config: the experiment (`bold`, `preprocessing`).
        design: section of the data set, with its task and session.
        dataset: its name.
        subject: label without `sub-`.
        derivatives_dir: root of the derivatives, which holds `sub-XX`.
        output: `sub-XX_bold.npy`.
        seconds_per_volume: time step of the series (s); None keeps every run as sampled.
        lead_in: time from the first volume to the zero point of the onsets (s), for trial responses.

    Raises:
        UserError: no runs, missing or damaged files, NaN inside the mask, runs on different grids, too few volumes for the regressors.
    """
    runs = read_runs(config, design, subject, derivatives_dir)
    for run in runs:
        for note in run.notes:
            log.warning("%s: %s", run.bold.name, note)
    mask_XYZ, affine = common_mask(runs)
    voxels = np.flatnonzero(mask_XYZ).astype(np.int32)
    trials = trials_of_runs(design, subject, lead_in, runs) if config.bold.signal == "lss" and isinstance(design, Dataset) else None
    rows_of_runs = [run_rows(run, seconds_per_volume, trials) for run in runs]
    n_rows = sum(map(len, rows_of_runs))

    described: list[dict[str, object]] = []
    with atomic(output) as part:
        series_TV = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=(n_rows, len(voxels)))
        first = 0
        for run, rows in zip(tqdm(runs, desc=f"series sub-{subject}", mininterval=5), rows_of_runs, strict=True):
            data_TV = image_data(load_image(run.bold, 4), mask_XYZ)[mask_XYZ].T
            if config.bold.smoothing_fwhm:
                data_TV = smooth(data_TV, mask_XYZ, affine, config.bold.smoothing_fwhm)
            series_TV[first : first + len(rows)] = run_signal(data_TV, run, rows, trials, config.bold.clip_sigma)
            described.append(
                {
                    "run": run.label,
                    "first_volume": first,
                    "n_volumes": len(rows),
                    "repetition_time": max(run.repetition_time, seconds_per_volume or 0.0),
                    "start_time": run.start_time,
                    "duration": len(run.steady) * run.repetition_time,
                    "regressors": run.confounds_TK.shape[1],
                }
            )
            first += len(rows)
        series_TV.flush()
        del series_TV
    write_json(
        header_path(output),
        {
            "shape": [n_rows, len(voxels)],
            "dtype": "float16",
            "axes": ["volume" if trials is None else "trial", "voxel"],
            "units": "standard deviations",
            "dataset": dataset,
            "subject": subject,
            "space": config.preprocessing.space,
            "grid_shape": list(mask_XYZ.shape),
            "affine": affine.tolist(),
            "runs": described,
        },
    )
    save_array(voxels_path(output), voxels, axes=["voxel"], units="flat C-order index in grid_shape")
    displacement = [np.fmax.reduce(run.framewise_displacement[row]) for run, rows in zip(runs, rows_of_runs, strict=True) for row in rows]
    save_array(displacement_path(output), np.array(displacement, np.float32), axes=["volume"], units="mm")


def trials_of_runs(design: Dataset, subject: str, lead_in: float, runs: list[Run]) -> dict[str, pd.DataFrame]:
    """Read the `stimulus_events` that took place in each of a subject's runs, by run label; also those that are unusable as trials."""
    files = run_events(design, subject, [run.label for run in runs])
    durations = {run.label: len(run.steady) * run.repetition_time for run in runs}
    return {run: with_onset(within_run(stimulus_events(design, path, lead_in), durations[run])) for run, path in files.items()}


def run_rows(run: Run, seconds_per_volume: float | None, trials: dict[str, pd.DataFrame] | None) -> list[slice]:
    """Return the volumes that each row of the series represents: those of a time step or of a trial's response.

    Raises:
        UserError: trials are given, but the run has no events.
    """
    if trials is None:
        return time_steps(len(run.steady), run.repetition_time, seconds_per_volume)
    if run.label not in trials:
        raise UserError(
            str(run.bold), "events: found none for this run, expected them to estimate its trials' responses; add its events.tsv"
        )
    last = len(run.steady) - 1
    starts = np.clip(np.round((trials[run.label]["onset"] - run.start_time) / run.repetition_time).astype(int), 0, last)
    return [slice(start, start + max(1, round(RESPONSE_SECONDS / run.repetition_time))) for start in starts]


def run_signal(
    data_TV: NDArray[np.float32], run: Run, rows: list[slice], trials: dict[str, pd.DataFrame] | None, clip_sigma: float
) -> NDArray[np.float32]:
    """Compute a run's rows of the series, (rows, V): cleaned volumes, their means over time steps, or trial responses."""
    if trials is None:
        cleaned_TV = clean(data_TV, run.confounds_TK, run.steady, clip_sigma)
        return cleaned_TV if len(rows) == len(cleaned_TV) else average(cleaned_TV, run.steady, rows, clip_sigma)
    if (events := trials[run.label]).empty:
        return np.zeros((0, data_TV.shape[1]), np.float32)
    regressors_TN = trial_regressors(
        events["onset"].to_numpy(), events["duration"].to_numpy(), len(run.steady), run.repetition_time, run.start_time
    )
    trend = np.column_stack([np.ones(len(run.steady)), np.linspace(-1, 1, len(run.steady))])
    nuisance_TK = np.column_stack([trend, run.confounds_TK])[run.steady]
    return standardised(separate_responses(data_TV[run.steady], regressors_TN[run.steady], nuisance_TK), clip_sigma)


def smooth(
    data_TV: NDArray[np.float32],
    mask_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    fwhm: float,
) -> NDArray[np.float32]:
    """Smooth with a Gaussian that ignores everything outside the mask.

    Args:
        data_TV: volumes by voxels of the mask.
        affine: voxel to world (mm).
        fwhm: mm.
    """
    sigma = fwhm / np.sqrt(8 * np.log(2)) / np.linalg.norm(affine[:3, :3], axis=0)
    weight_V = ndimage.gaussian_filter(mask_XYZ.astype(np.float32), sigma)[mask_XYZ]
    volume_XYZ = np.zeros(mask_XYZ.shape, np.float32)
    smoothed_TV = np.empty_like(data_TV, order="C")
    for data_V, smoothed_V in zip(data_TV, smoothed_TV, strict=True):
        volume_XYZ[mask_XYZ] = data_V
        smoothed_V[:] = ndimage.gaussian_filter(volume_XYZ, sigma)[mask_XYZ] / weight_V
    return smoothed_TV


def clean(
    data_TV: NDArray[np.float32],
    confounds_TK: NDArray[np.float64],
    steady: NDArray[np.bool_],
    clip_sigma: float,
) -> NDArray[np.float32]:
    """Regress out confounds, mean and linear trend in one projection, z-score, and clip.

    Equal to `nilearn.signal.clean(detrend=True, standardize="zscore", confounds=...)` up to rounding, in a third of the time: with
    an orthonormal basis Q of the regressors, the residual is Y - Q Qᵀ Y.

    Args:
        data_TV: BOLD of one run.
        confounds_TK: regressors.
        steady: (T,) volumes to use; others become 0.
        clip_sigma: largest absolute value (SD).

    Returns:
        (T, V); constant voxels are 0.
    """
    n_volumes = int(steady.sum())
    nuisance = np.column_stack([np.linspace(-1, 1, n_volumes), confounds_TK[steady]])
    sizes = np.abs(nuisance).max(axis=0)
    nuisance = nuisance - nuisance.mean(axis=0)
    nuisance = nuisance[:, nuisance.std(axis=0) > 1e-12 * sizes]
    nuisance /= nuisance.std(axis=0)
    u, singular, _ = np.linalg.svd(nuisance, full_matrices=False)
    # a repeated regressor adds no direction
    basis_TK = u[:, singular > singular[0] * 1e-8].astype(np.float32)
    used_TV = data_TV[steady] - data_TV[steady].mean(axis=0)
    scale = used_TV.std(axis=0)
    used_TV -= basis_TK @ (basis_TK.T @ used_TV)
    sd = used_TV.std(axis=0)
    used_TV /= np.where(sd > 1e-5 * np.maximum(scale, 1e-12), sd, np.inf)
    out_TV = np.zeros_like(data_TV, dtype=np.float32)
    out_TV[steady] = np.clip(used_TV, -clip_sigma, clip_sigma)
    return out_TV
