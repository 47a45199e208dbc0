"""Preflight of ready derivatives that only pretraining reads: catch errors that would otherwise stop it hours later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.config.brain_size import LARGEST_LOSS
from boldscribe.config.data_settings import Dataset, PretrainingSet
from boldscribe.data.images import describe_grid, load_image, same_grid
from boldscribe.data.placement import place_in_grid
from boldscribe.data.preprocessed import voxel_edges
from boldscribe.data.problems import grouped
from boldscribe.data.runs import common_mask, read_runs
from boldscribe.data.time_steps import time_steps
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import manifest


def subject_manifest(config: Config, name: str, subject: str) -> dict[str, Any]:
    """Return label and file digests of a subject that only pretraining reads."""
    folder = Path(config.pretraining[name].derivatives_dir) / f"sub-{subject}"
    return {"subject": subject, "manifest": manifest(folder)}


def check_pretraining_set(config: Config, name: str) -> dict[str, Any]:
    """Check that all subjects' derivatives can be cleaned and cut into windows along with the experiment's.

    Per run: image, brain mask and confounds exist and share one grid; the TR is plausible; there are enough volumes for the
    regressors. Per subject: one run fits a window; voxels lie inside the tokenizer's grid, and are on the grid of all ready derivatives
    in the configuration, or have the configured size. Images are not read in full: cleaning starts with that.

    Returns:
        that common grid: `space`, `grid_shape`, `affine`.

    Raises:
        UserError: all problems at once, each with file, found value, expected value, and remedy.
    """
    design = config.pretraining[name]
    reference = first_ready_run(config)
    subjects = tqdm(design.subjects, f"headers of {name}", mininterval=5)
    problems = [problem for subject in subjects for problem in _subject_problems(config, design, subject, reference)]
    if problems:
        raise UserError(f"pretraining.{name}", *grouped(problems))
    image = load_image(reference, 4)
    return {"space": config.preprocessing.space, "grid_shape": list(image.shape[:3]), "affine": image.affine.tolist()}


def first_ready_run(config: Config) -> Path:
    """Return the run whose grid all ready derivatives must have.

    It is the first subject's: of a data set with ready derivatives, or else of a pretraining set.

    Raises:
        UserError: the run does not exist.
    """
    ready: list[tuple[Dataset | PretrainingSet, str]] = []
    if config.preprocessing.engine == "derivatives":
        ready += [(config.datasets[name], config.datasets[name].subjects[0]) for name in config.whole_datasets]
    ready += [(extra, extra.subjects[0]) for _, extra in config.pretraining.items()]
    design, subject = ready[0]
    return read_runs(config, design, subject, Path(design.derivatives_dir or ""))[0].bold


def _subject_problems(config: Config, design: PretrainingSet, subject: str, reference: Path) -> list[str]:
    root = Path(design.derivatives_dir)
    try:
        runs = read_runs(config, design, subject, root)
        mask_XYZ, _ = common_mask(runs)
    except UserError as error:
        return [str(error)]
    problems: list[str] = []
    lengths = [len(time_steps(len(run.steady), run.repetition_time, design.seconds_per_volume)) for run in runs]
    if max(lengths) < (needed := config.bold.n_volumes):
        problems.append(
            f"{runs[0].bold}: volumes: found {max(lengths)} in the longest run, expected at least {needed} for a "
            f"window; remove sub-{subject}"
        )
    image, other = load_image(runs[0].bold, 4), load_image(reference, 4)
    made_here = config.preprocessing.engine != "derivatives"
    zooms = voxel_edges(runs[0].bold)
    wanted = (config.preprocessing.resolution,) * 3 if made_here else voxel_edges(reference)
    if not np.allclose(zooms, wanted, atol=0.01):
        found, expected = (" x ".join(f"{edge:g}" for edge in edges) for edges in (zooms, wanted))
        problems.append(f"{runs[0].bold}: voxels: found {found} mm, expected {expected}; provide derivatives of this resolution")
    if not same_grid(image, other):
        problems.append(
            f"{runs[0].bold}: grid: found {describe_grid(image.shape[:3], image.affine)}; expected "
            f"{describe_grid(other.shape[:3], other.affine)}, as in {reference}; provide the derivatives of all subjects in one space and "
            "resolution"
        )
        return problems
    inside = place_in_grid(np.flatnonzero(mask_XYZ).astype(np.int32), mask_XYZ.shape, config.tokenizer.grid)[1]
    if (lost := 1 - inside.mean()) > LARGEST_LOSS:
        problems.append(
            f"{runs[0].bold}: tokenizer.grid: found {config.tokenizer.grid}, which cuts off {lost:.0%} of the brain; enlarge it"
        )
    return problems
