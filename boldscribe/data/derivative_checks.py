"""Preflight of what later stages read besides events and videos: times, confounds, masks, grids and values of every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.images import check_values, describe_grid, load_image, same_grid
from boldscribe.data.layout import choose, metadata, name_parts, run_files
from boldscribe.data.preprocessed import voxel_edges
from boldscribe.data.runs import common_mask, read_run
from boldscribe.data.timing import readout_time, run_repetition_time, times_along_axis
from boldscribe.data.transforms import find_run, transform_problems
from boldscribe.machinery.errors import UserError


@dataclass
class Findings:
    """Findings about a subject's runs.

    Attributes:
        problems: one sentence each.
        notes: what later steps assume or leave out, with the runs that it concerns.
    """

    problems: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, text: str, run: str) -> None:
        """Add a run to a note."""
        if text:
            self.notes.setdefault(text, []).append(run)

    @property
    def remarks(self) -> list[str]:
        """The notes in words."""
        return [f"run {', '.join(runs)}: {text}" for text, runs in self.notes.items()]


def absent_runs(design: Dataset, subject: str, runs: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """Return the runs that the raw folder has events or BOLD of, but that are not among a subject's runs.

    Returns:
        those that are missing, and those of which `datasets.*.entities` chooses no file.
    """
    raw = run_files(design.bids_dir, subject, design.choice, "events", [".tsv"]) + run_files(design.bids_dir, subject, design.choice)
    chosen = {design.choice.label(name_parts(path)) for path in raw if choose([path], design.entities)}
    there = {design.choice.label(name_parts(path)) for path in raw}
    return sorted(chosen - set(runs)), sorted(there - chosen - set(runs))


def check_runs(config: Config, design: Dataset, subject: str, bolds: Mapping[str, Path], root: Path) -> Findings:
    """Check a subject's runs as the configured engine and the cleaning of series will read them.

    With ready derivatives: confounds (rows, columns, values), masks, one grid, and finite values inside the mask. With the engine
    `minimal`: transforms and the images that they belong to. Of raw data: slice times and readout.

    Args:
        config: the experiment (`bold`, `preprocessing`).
        design: section of the data set.
        subject: label.
        bolds: images by run, which can be opened and have a TR.
        root: folder of the images.
    """
    found = Findings()
    for run, bold in bolds.items():
        found.note(run_repetition_time(bold, root)[1], run)
    if config.preprocessing.engine == "derivatives":
        _check_ready(config, design, subject, bolds, root, found)
        return found
    for bold in bolds.values():
        try:
            _check_sidecar(bold, root)
        except UserError as error:
            found.problems.append(str(error))
    if config.preprocessing.engine == "minimal":
        ready = Path(design.derivatives_dir or "")
        found.problems += transform_problems(ready, root, subject, bolds, config.preprocessing.space)
        for run, bold in bolds.items():
            corrected = find_run(ready, root, bold).to_fieldmap is not None
            found.note("" if corrected else "not corrected for distortion, since the derivatives have no transform to a field map", run)
    return found


def _check_ready(config: Config, design: Dataset, subject: str, bolds: Mapping[str, Path], root: Path, found: Findings) -> None:
    """Read the files of a subject's ready derivatives."""
    runs = []
    for label, bold in bolds.items():
        try:
            runs.append(read_run(label, bold, root, config.bold, design, subject))
        except UserError as error:
            found.problems.append(str(error))
            continue
        for text in runs[-1].notes:
            if label not in found.notes.get(text, []):
                found.note(text, label)
        if not np.allclose(edges := voxel_edges(bold), config.preprocessing.resolution, atol=0.01):
            found.note(f"voxels of {' x '.join(f'{edge:g}' for edge in edges)} mm, as the images have them", label)
    if not runs:
        return
    try:
        mask_XYZ, _ = common_mask(runs)
    except UserError as error:
        found.problems.append(str(error))
        return
    for run in runs:
        try:
            check_values(load_image(run.bold, 4), mask_XYZ)
        except UserError as error:
            found.problems.append(str(error))


def _check_sidecar(bold: Path, root: Path) -> None:
    """Check the sidecar of a raw run: one slice time per slice, if it has any, and a readout that is stated in numbers.

    Raises:
        UserError: an unusable entry.
    """
    sidecar, shape = metadata(bold, root), load_image(bold, 4).shape
    times, axis = times_along_axis(sidecar, bold)
    if times and len(times) != shape[axis]:
        raise UserError(
            str(bold), f"SliceTiming: found {len(times)} times in the sidecar, expected {shape[axis]}, one per slice; correct it"
        )
    readout_time(sidecar, bold, shape)


def grid_problems(first_runs: Mapping[str, Path]) -> list[str]:
    """Return the subjects whose grid is not that of the first subject.

    Args:
        first_runs: a preprocessed run of each subject.
    """
    problems = []
    images = {subject: load_image(path, 4) for subject, path in first_runs.items()}
    reference = next(iter(images.values()), None)
    for subject, image in images.items():
        if reference is not None and not same_grid(image, reference):
            problems.append(
                f"{first_runs[subject]}: grid: found {describe_grid(image.shape[:3], image.affine)}; expected "
                f"{describe_grid(reference.shape[:3], reference.affine)}, as in {next(iter(first_runs.values())).name}; provide the "
                "derivatives of all subjects in one space and resolution"
            )
    return problems
