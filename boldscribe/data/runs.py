"""Preprocessed runs of a subject: files, confounds, and common voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.interfaces.fmriprep import load_confounds
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.config.data_settings import Bold, Dataset, PretrainingSet
from boldscribe.data.drift import cosines
from boldscribe.data.images import image_data, load_image, repetition_time
from boldscribe.data.layout import metadata
from boldscribe.data.preprocessed import preprocessed_runs, start_time
from boldscribe.data.tables import read_numbers
from boldscribe.data.template import load_template
from boldscribe.machinery.errors import UserError

FREE_VOLUMES = 10


@dataclass(frozen=True)
class Run:
    """A preprocessed run: its files, confounds, and acquisition times."""

    label: str
    bold: Path
    mask: Path | None  # None if the derivatives have none: then the template's mask is used
    repetition_time: float
    start_time: float
    confounds_TK: NDArray[np.float64]
    steady: NDArray[np.bool_]
    framewise_displacement: NDArray[np.float32]


def read_runs(config: Config, design: Dataset | PretrainingSet, subject: str, derivatives_dir: Path) -> list[Run]:
    """Read a subject's preprocessed runs in the configured space and resolution; the image data stay on disk.

    Raises:
        UserError: none found; see also `read_run`.
    """
    bolds = preprocessed_runs(derivatives_dir, subject, design, config.preprocessing)
    return [
        read_run(label, path, derivatives_dir, config.bold, start_time(path, derivatives_dir, design, subject, label))
        for label, path in bolds.items()
    ]


def read_run(label: str, bold: Path, root: Path, settings: Bold, start: float) -> Run:
    """Collect a run's files and read its confounds; the image data stay on disk.

    Args:
        label: run label.
        bold: preprocessed image.
        root: derivatives folder.
        settings: choice of confounds.
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
            f"{confounds.shape[1] + 2 + FREE_VOLUMES}; choose fewer in bold.motion and bold.tissue, or remove the run",
        )
    has_mask = mask.exists() or "_space-" in bold.name
    return Run(label, bold, mask if has_mask else None, tr, start, confounds.to_numpy(), steady, displacement)


def read_confounds(
    bold: Path,
    n_volumes: int,
    tr: float,
    settings: Bold,
) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.float32]]:
    """Read the regressors chosen by nilearn's `load_confounds`, steady-state volumes, and framewise displacement (mm).

    Raises:
        UserError: no confounds next to the image, missing columns, or a number of rows that differs from that of volumes.
    """
    strategy = ["motion", "high_pass", *(["wm_csf"] if settings.tissue else [])]
    try:
        table, steady_rows = load_confounds(
            str(bold), strategy=strategy, motion=settings.motion, wm_csf=settings.tissue or "basic", demean=False
        )
    except (ValueError, KeyError) as error:
        raise UserError(str(bold), f"confounds: {error}; expected fMRIPrep's desc-confounds_timeseries.tsv and .json next to it") from None
    if len(table) != n_volumes:
        raise UserError(str(bold), f"confounds: found {len(table)} rows, expected {n_volumes}, one per volume; preprocess the run again")
    if cosines(n_volumes, tr).size and not any(c.startswith("cosine") for c in table):
        raise UserError(str(bold), "confounds: found no cosine columns, expected them as the high-pass filter; preprocess the run again")
    steady = np.ones(n_volumes, bool)
    if steady_rows is not None:
        steady = np.isin(np.arange(n_volumes), steady_rows)
    # nilearn orders columns by a set, so their order varies between processes
    table = table[sorted(table.columns)].bfill()
    if table.isna().any(axis=None):
        broken = ", ".join(table.columns[table.isna().any()])
        raise UserError(str(bold), f"confounds: found NaN after the first rows in {broken}, expected numbers; repair the table")
    displacement = read_numbers(_confounds_path(bold), ["framewise_displacement"])["framewise_displacement"]
    return table, steady, displacement.to_numpy(np.float32)


def _confounds_path(bold: Path) -> Path:
    stem = bold.name.split("_space-")[0].split("_desc-")[0]
    return next(p for suffix in ("timeseries", "regressors") if (p := bold.with_name(f"{stem}_desc-confounds_{suffix}.tsv")).is_file())


def common_mask(runs: list[Run]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the intersection of all runs' brain masks, (X, Y, Z), and the affine of their grid.

    Raises:
        UserError: a mask is missing, an image or mask is not on the grid of the first run, or the intersection is empty.
    """
    reference = load_image(runs[0].bold, 4)
    mask_XYZ = np.ones(reference.shape[:3], bool)
    for run in runs:
        files = {run.bold: load_image(run.bold, 4)} | ({run.mask: load_image(run.mask, 3)} if run.mask else {})
        for path, image in files.items():
            if image.shape[:3] != reference.shape[:3] or not np.allclose(image.affine, reference.affine, atol=1e-3):
                raise UserError(
                    str(path),
                    f"grid: found {image.shape[:3]} with its affine, expected {reference.shape[:3]} with the affine of "
                    f"{runs[0].bold.name}; preprocess all runs in one space and resolution",
                )
        mask_XYZ &= image_data(files[run.mask]) > 0 if run.mask else load_template(reference.shape[:3], reference.affine).mask
    if not mask_XYZ.any():
        raise UserError(
            str(runs[0].mask or runs[0].bold),
            "voxels: found none inside the masks of all runs; check the masks and their alignment",
        )
    return mask_XYZ, np.asarray(reference.affine)
