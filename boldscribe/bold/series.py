"""Derivatives to one cleaned series per subject: masked, confounds regressed, z-scored.

Reads what fMRIPrep writes and what the embedded workflow writes, since both use the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.interfaces.fmriprep import load_confounds
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from boldscribe.bids import find_runs, metadata, stimulus_events
from boldscribe.bids.preprocessed import preprocessed_runs, start_time
from boldscribe.bold.betas import separate_responses, standardised, trial_regressors
from boldscribe.bold.time_steps import average, time_steps
from boldscribe.bold.windows import displacement_path, voxels_path
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic, header_path, save_array, write_json
from boldscribe.images import image_data, load_image, repetition_time
from boldscribe.preprocessing.confounds import cosines
from boldscribe.preprocessing.template import load_template
from boldscribe.sections.data import Bold, Dataset, PretrainingSet

FREE_VOLUMES = 10
RESPONSE_SECONDS = 12.0  # from onset to the end of the peak


@dataclass(frozen=True)
class Run:
    """A preprocessed run: its files, its confounds, and when its volumes were taken."""

    label: str
    bold: Path
    mask: Path | None  # None where the derivatives have none: the template's stands for it
    repetition_time: float
    start_time: float
    confounds_TK: NDArray[np.float64]
    steady: NDArray[np.bool_]
    framewise_displacement: NDArray[np.float32]


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

    Voxels are those in the masks of all the runs. Per run: volumes are smoothed, if configured; motion, tissue, cosine and trend
    regressors are taken out in one projection; then each voxel is z-scored and clipped. Volumes before the steady state
    (`non_steady_state_outlier`) take no part in this and are set to 0, the mean. Runs that are sampled faster than a given time step
    are averaged to it once they are clean. With `bold.signal: lss` the rows are the responses of the trials instead of volumes, fitted
    with the same regressors (`boldscribe.bold.betas`), z-scored over the trials of the run.

    Args:
        config: the experiment (`bold`, `preprocessing`).
        design: section of the data set, with its task and session.
        dataset: its name.
        subject: label without `sub-`.
        derivatives_dir: root of the derivatives, which holds `sub-XX`.
        output: `sub-XX_bold.npy`.
        seconds_per_volume: time step of the series (s); None keeps every run as sampled.
        lead_in: time from the first volume to the zero of the onsets (s), for the responses of trials.

    Raises:
        UserError: no runs, missing or damaged files, NaN, runs on different grids, too few volumes for the regressors.
    """
    runs = read_runs(config, design, subject, derivatives_dir)
    mask_XYZ, affine = common_mask(runs)
    voxels = np.flatnonzero(mask_XYZ).astype(np.int32)
    trials = trials_of_runs(design, subject, lead_in) if config.bold.signal == "lss" and isinstance(design, Dataset) else None
    rows_of_runs = [run_rows(run, seconds_per_volume, trials) for run in runs]
    n_rows = sum(map(len, rows_of_runs))

    described: list[dict[str, object]] = []
    with atomic(output) as part:
        series_TV = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=(n_rows, len(voxels)))
        first = 0
        for run, rows in zip(tqdm(runs, desc=f"series sub-{subject}", mininterval=5), rows_of_runs, strict=True):
            data_TV = image_data(load_image(run.bold, 4))[mask_XYZ].T
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


def trials_of_runs(design: Dataset, subject: str, lead_in: float) -> dict[str, pd.DataFrame]:
    """`stimulus_events` of each run of a subject, by run label."""
    files = find_runs(design.bids_dir, subject, design.session, design.task, "events", [".tsv"])
    return {run: stimulus_events(design, path, lead_in) for run, path in files.items()}


def run_rows(run: Run, seconds_per_volume: float | None, trials: dict[str, pd.DataFrame] | None) -> list[slice]:
    """The volumes that each row of the series stands for: those of a time step, or of a trial's response.

    Raises:
        UserError: trials are asked for, and the run has no events.
    """
    if trials is None:
        return time_steps(len(run.steady), run.repetition_time, seconds_per_volume)
    if run.label not in trials:
        raise UserError(str(run.bold), "events: found none of this run, expected them for the responses of its trials; add its events.tsv")
    last = len(run.steady) - 1
    starts = np.clip(np.round((trials[run.label]["onset"] - run.start_time) / run.repetition_time).astype(int), 0, last)
    return [slice(start, start + max(1, round(RESPONSE_SECONDS / run.repetition_time))) for start in starts]


def run_signal(
    data_TV: NDArray[np.float32], run: Run, rows: list[slice], trials: dict[str, pd.DataFrame] | None, clip_sigma: float
) -> NDArray[np.float32]:
    """What the series holds of a run, (rows, V): cleaned volumes, their means over time steps, or the responses of trials."""
    if trials is None:
        cleaned_TV = clean(data_TV, run.confounds_TK, run.steady, clip_sigma)
        return cleaned_TV if len(rows) == len(cleaned_TV) else average(cleaned_TV, run.steady, rows, clip_sigma)
    events = trials[run.label]
    regressors_TN = trial_regressors(
        events["onset"].to_numpy(), events["duration"].to_numpy(), len(run.steady), run.repetition_time, run.start_time
    )
    trend = np.column_stack([np.ones(len(run.steady)), np.linspace(-1, 1, len(run.steady))])
    nuisance_TK = np.column_stack([trend, run.confounds_TK])[run.steady]
    return standardised(separate_responses(data_TV[run.steady], regressors_TN[run.steady], nuisance_TK), clip_sigma)


def read_runs(config: Config, design: Dataset | PretrainingSet, subject: str, derivatives_dir: Path) -> list[Run]:
    """A subject's preprocessed runs, in the configured space and resolution; their image data stay on disk.

    Raises:
        UserError: none found, or what `read_run` finds.
    """
    bolds = preprocessed_runs(derivatives_dir, subject, design, config.preprocessing)
    return [
        read_run(label, path, derivatives_dir, config.bold, start_time(path, derivatives_dir, design, subject, label))
        for label, path in bolds.items()
    ]


def read_run(label: str, bold: Path, root: Path, settings: Bold, start: float) -> Run:
    """Collect a run's files and read its confounds; the image data stay on disk.

    Args:
        label: of the run.
        bold: preprocessed image.
        root: derivatives.
        settings: which confounds.
        start: its `start_time` (s).

    Raises:
        UserError: a file is missing, or too few volumes for the regressors.
    """
    image = load_image(bold, 4)
    n_volumes = image.shape[3]
    tr = float(metadata(bold, root).get("RepetitionTime") or repetition_time(image))
    if tr <= 0:
        raise UserError(str(bold), f"RepetitionTime: found {tr}, expected seconds; add it to the JSON sidecar")
    mask = bold.with_name(bold.name.replace("_desc-preproc_bold", "_desc-brain_mask"))
    confounds, steady, displacement = read_confounds(bold, n_volumes, tr, settings)
    if steady.sum() < confounds.shape[1] + 2 + FREE_VOLUMES:
        raise UserError(
            str(bold),
            f"volumes: found {steady.sum()} for {confounds.shape[1]} regressors, mean and trend, expected at least "
            f"{confounds.shape[1] + 2 + FREE_VOLUMES}; choose fewer in bold.motion and bold.tissue, or take the run out",
        )
    has_mask = mask.exists() or "_space-" in bold.name
    return Run(label, bold, mask if has_mask else None, tr, start, confounds.to_numpy(), steady, displacement)


def read_confounds(
    bold: Path,
    n_volumes: int,
    tr: float,
    settings: Bold,
) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.float32]]:
    """Regressors chosen by nilearn's `load_confounds`, steady-state volumes, and framewise displacement (mm).

    Raises:
        UserError: no confounds beside the image, columns missing, or another number of rows than volumes.
    """
    strategy = ["motion", "high_pass", *(["wm_csf"] if settings.tissue else [])]
    try:
        table, steady_rows = load_confounds(
            str(bold), strategy=strategy, motion=settings.motion, wm_csf=settings.tissue or "basic", demean=False
        )
    except (ValueError, KeyError) as error:
        raise UserError(str(bold), f"confounds: {error}; expected fMRIPrep's desc-confounds_timeseries.tsv and .json beside it") from None
    if len(table) != n_volumes:
        raise UserError(str(bold), f"confounds: found {len(table)} rows, expected {n_volumes}, one per volume; preprocess the run again")
    if cosines(n_volumes, tr).size and not any(c.startswith("cosine") for c in table):
        raise UserError(
            str(bold), "confounds: found no cosine columns, expected them: they are the high-pass filter; preprocess the run again"
        )
    steady = np.ones(n_volumes, bool)
    if steady_rows is not None:
        steady = np.isin(np.arange(n_volumes), steady_rows)
    # nilearn orders columns by a set, which differs from process to process
    table = table[sorted(table.columns)].bfill()
    if table.isna().any(axis=None):
        broken = ", ".join(table.columns[table.isna().any()])
        raise UserError(str(bold), f"confounds: found NaN after the first rows in {broken}, expected numbers; repair the table")
    everything = pd.read_csv(_confounds_path(bold), sep="\t", na_values="n/a", usecols=lambda c: c == "framewise_displacement")
    if everything.empty:
        raise UserError(str(_confounds_path(bold)), "columns: found no framewise_displacement, expected it; preprocess the run again")
    return table, steady, everything["framewise_displacement"].to_numpy(np.float32)


def _confounds_path(bold: Path) -> Path:
    stem = bold.name.split("_space-")[0].split("_desc-")[0]
    return next(p for suffix in ("timeseries", "regressors") if (p := bold.with_name(f"{stem}_desc-confounds_{suffix}.tsv")).is_file())


def common_mask(runs: list[Run]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Voxels in the brain masks of all the runs, (X, Y, Z), and the affine of their grid.

    Raises:
        UserError: a mask is missing, on another grid than its run or than the first run, or nothing is common.
    """
    reference = load_image(runs[0].bold, 4)
    mask_XYZ = np.ones(reference.shape[:3], bool)
    for run in runs:
        files = {run.bold: load_image(run.bold, 4)} | ({run.mask: load_image(run.mask, 3)} if run.mask else {})
        for path, image in files.items():
            if image.shape[:3] != reference.shape[:3] or not np.allclose(image.affine, reference.affine, atol=1e-3):
                raise UserError(
                    str(path),
                    f"grid: found {image.shape[:3]} with its affine, expected {reference.shape[:3]} and that of "
                    f"{runs[0].bold.name}; preprocess all runs in one space and resolution",
                )
        mask_XYZ &= image_data(files[run.mask]) > 0 if run.mask else load_template(reference.shape[:3], reference.affine).mask
    if not mask_XYZ.any():
        raise UserError(
            str(runs[0].mask or runs[0].bold),
            "voxels: found none that is in the masks of all the runs; look at the masks and their alignment",
        )
    return mask_XYZ, np.asarray(reference.affine)


def smooth(
    data_TV: NDArray[np.float32],
    mask_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    fwhm: float,
) -> NDArray[np.float32]:
    """Gaussian smoothing that takes nothing from outside the mask.

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
    """Regress confounds, mean and linear trend in one projection, z-score, clip.

    Equal to `nilearn.signal.clean(detrend=True, standardize="zscore", confounds=...)` up to rounding, at a third of its time: with
    an orthonormal basis Q of the regressors the residual is Y - Q Qᵀ Y.

    Args:
        data_TV: BOLD of one run.
        confounds_TK: regressors.
        steady: (T,) volumes that take part; others become 0.
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
