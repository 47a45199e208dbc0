"""Preflight of a raw BIDS data set: everything that would stop the pipeline hours later, found in seconds."""

from __future__ import annotations

import math
from pathlib import Path

from boldscribe.bids import find_runs, find_t1w, metadata, read_events, run_label, subjects
from boldscribe.config import Dataset
from boldscribe.errors import UserError
from boldscribe.images import FETCH_AGAIN, load_image, missing_bytes, repetition_time

TR_RANGE = (0.2, 10.0)
SHOWN = 25


def validate_raw(dataset: Dataset) -> None:
    """Check that every subject of a raw data set has what preprocessing and trials need.

    Per subject: a T1w image, runs, and all the runs that the split names; per image: header, length of the data, TR
    (sane, and the same in header and sidecar); per run: events with their columns, onsets inside the run, stimuli that exist.

    Raises:
        UserError: all the problems together, each with file, field, what was found, what is expected, and the remedy.
    """
    root = Path(dataset.bids_dir)
    if not root.is_dir():
        raise UserError(str(root), "bids_dir: the folder does not exist; fetch the data set or correct the path")
    problems: list[str] = []
    for subject in subjects(dataset):
        problems += _subject_problems(root, dataset, subject)
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(str(root), *problems[:SHOWN], *more)


def _subject_problems(root: Path, dataset: Dataset, subject: str) -> list[str]:
    if not (root / f"sub-{subject}").is_dir():
        found = ", ".join(sorted(p.name for p in root.glob("sub-*"))) or "none"
        return [f"sub-{subject}: found no such folder (there is {found}); correct train_subjects or validation_subjects"]
    try:
        runs = find_runs(root, subject, dataset.session, dataset.task)
        events = find_runs(root, subject, dataset.session, dataset.task, "events", ".tsv")
    except UserError as error:
        return [str(error)]
    problems = []
    t1w = find_t1w(root, subject)
    if t1w is None:
        problems.append(f"sub-{subject}: found no anat/*_T1w.nii.gz, expected one; without it nothing can be aligned to the template")
    else:
        problems += _image_problems(t1w, 3)
    if not runs:
        session = f"/ses-{dataset.session}" if dataset.session else ""
        problems.append(f"sub-{subject}{session}/func: found no task-{dataset.task} BOLD run; correct task or session in the configuration")
    elif subject in dataset.validation_subjects:
        wanted = [run_label(r) for r in (*dataset.adaptation_runs, *dataset.test_runs)]
        if absent := [r for r in wanted if r not in runs]:
            problems.append(
                f"sub-{subject}: found runs {', '.join(runs)}, expected also {', '.join(absent)}; correct adaptation_runs or test_runs")
    for label, bold in runs.items():
        if image_problems := _image_problems(bold, 4):
            problems += image_problems
            continue
        problems += _repetition_time_problems(bold, root)
        problems += _event_problems(bold, events.get(label), root)
    return problems


def _image_problems(path: Path, ndim: int) -> list[str]:
    try:
        image = load_image(path, ndim)
    except UserError as error:
        return [str(error)]
    if lacking := missing_bytes(path, image):
        return [f"{path}: found {lacking} bytes fewer than the header's shape {image.shape} needs; {FETCH_AGAIN}"]
    return []


def _repetition_time_problems(bold: Path, root: Path) -> list[str]:
    header = repetition_time(load_image(bold, 4))
    try:
        sidecar = metadata(bold, root).get("RepetitionTime")
    except UserError as error:
        return [str(error)]
    if not isinstance(sidecar, (int, float)) or not TR_RANGE[0] <= sidecar <= TR_RANGE[1]:
        return [f"{bold}: RepetitionTime: found {sidecar!r} in its JSON sidecar, expected {TR_RANGE[0]} to {TR_RANGE[1]} s; correct it"]
    if not math.isclose(header, sidecar, abs_tol=0.01):
        return [f"{bold}: pixdim[4]: found {header:g} s, expected {sidecar:g} s as in the JSON sidecar; correct the wrong one"]
    return []


def _event_problems(bold: Path, path: Path | None, root: Path) -> list[str]:
    if path is None:
        return [f"{bold}: found no events.tsv of the same run, expected one; add it"]
    try:
        events = read_events(path)
    except UserError as error:
        return [str(error)]
    image = load_image(bold, 4)
    length = image.shape[3] * repetition_time(image)
    outside = events.loc[(events["onset"] < 0) | (events["onset"] >= length), "onset"]
    problems = [f"{path}: onset: found {onset:g} s, expected 0 to {length:g} s, the length of the run; correct it" for onset in outside]
    absent = sorted({f for f in events["stim_file"] if not (root / "stimuli" / f).is_file()})
    if absent:
        shown = ", ".join(absent[:3])
        problems.append(
            f"{path}: stim_file: found {len(absent)} file(s) that do not exist below {root / 'stimuli'} ({shown}); add or rename them")
    return problems
