"""Preprocessed runs of a subject: files, confounds, and common voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.config.data_settings import Bold, Dataset, PretrainingSet
from boldscribe.data.images import describe_grid, load_image, mask_data, same_grid
from boldscribe.data.preprocessed import companion, preprocessed_runs
from boldscribe.data.regressors import read_confounds
from boldscribe.data.template import load_template
from boldscribe.data.timing import run_repetition_time, start_time
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
    notes: tuple[str, ...] = ()  # what is assumed of its times


def read_runs(config: Config, design: Dataset | PretrainingSet, subject: str, derivatives_dir: Path) -> list[Run]:
    """Read a subject's preprocessed runs in the configured space; the image data stay on disk.

    Raises:
        UserError: none found; see also `read_run`.
    """
    bolds = preprocessed_runs(derivatives_dir, subject, design, config.preprocessing)
    return [read_run(label, path, derivatives_dir, config.bold, design, subject) for label, path in bolds.items()]


def read_run(label: str, bold: Path, root: Path, settings: Bold, design: Dataset | PretrainingSet, subject: str) -> Run:
    """Collect a run's files and read its confounds; the image data stay on disk.

    Args:
        label: run label.
        bold: preprocessed image.
        root: derivatives folder.
        settings: choice of confounds.
        design: section of the data set.
        subject: label.

    Raises:
        UserError: a file is missing, an entry of a sidecar is unusable, or too few volumes for the regressors.
    """
    n_volumes = load_image(bold, 4).shape[3]
    tr, note = run_repetition_time(bold, root)
    start, remark = start_time(bold, root, design, subject)
    confounds, steady, displacement = read_confounds(bold, n_volumes, tr, settings)
    if steady.sum() < confounds.shape[1] + 2 + FREE_VOLUMES:
        raise UserError(
            str(bold),
            f"volumes: found {steady.sum()} for {confounds.shape[1]} regressors, mean and trend, expected at least "
            f"{confounds.shape[1] + 2 + FREE_VOLUMES}; choose fewer in bold.motion and bold.tissue, or remove the run",
        )
    notes = tuple(filter(None, (note, remark)))
    return Run(label, bold, mask_path(bold), tr, start, confounds.to_numpy(), steady, displacement, notes)


def mask_path(bold: Path) -> Path | None:
    """Return the brain mask of a preprocessed image, in the same space; its expected path if it is missing.

    None stands for the template's mask: for images that name no space and have no mask.
    """
    found = companion(bold, "brain", ("mask",), (".nii.gz", ".nii"), ("echo", "part", "res", "den", "cohort"))
    if found is None and "_space-" in bold.name:
        return bold.with_name(bold.name.replace("_desc-preproc_bold", "_desc-brain_mask"))
    return found


def common_mask(runs: list[Run]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the intersection of all runs' brain masks, (X, Y, Z), and the affine of their grid.

    Raises:
        UserError: a mask is missing, an image or mask is not on the grid of the first run, or the intersection is empty.
    """
    reference = load_image(runs[0].bold, 4)
    mask_XYZ = np.ones(reference.shape[:3], bool)
    if any(run.mask is None for run in runs):
        mask_XYZ &= load_template(reference.shape[:3], reference.affine).mask
    for run in runs:
        for path, ndim in ((run.bold, 4), (run.mask, 3)):
            if path is None:
                continue
            image = load_image(path, ndim)
            if not same_grid(image, reference):
                raise UserError(
                    str(path),
                    f"grid: found {describe_grid(image.shape[:3], image.affine)}; expected "
                    f"{describe_grid(reference.shape[:3], reference.affine)}, as in {runs[0].bold.name}; preprocess all runs in one space "
                    "and resolution",
                )
            if path == run.mask:
                mask_XYZ &= mask_data(image)
    if not mask_XYZ.any():
        raise UserError(
            str(runs[0].mask or runs[0].bold),
            "voxels: found none inside the masks of all runs; check the masks and their alignment",
        )
    return mask_XYZ, np.asarray(reference.affine)
