"""Preflight of a raw BIDS data set: what would stop the pipeline hours later, found before anything is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from boldscribe.bids.layout import find_preprocessed, find_runs, find_t1w, metadata, read_events, subjects
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.images import FETCH_AGAIN, image_data, load_image, missing_bytes, repetition_time
from boldscribe.provenance.assets import manifest
from boldscribe.sections.data import Dataset
from boldscribe.stimuli.frames import check_video

TR_RANGE = (0.2, 10.0)
SHOWN = 25


def locate_dataset(dataset: Dataset) -> dict[str, Any]:
    """Make sure that a data set's folder is there: its path, name and subjects.

    Raises:
        UserError: no such folder, or no BIDS data set in it.
    """
    root = Path(dataset.bids_dir)
    if not root.is_dir():
        raise UserError(str(root), "bids_dir: the folder does not exist; download the data set there or correct the path")
    try:
        name = json.loads((root / "dataset_description.json").read_text())["Name"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            str(root / "dataset_description.json"), f"found no BIDS description with a Name ({error}); point bids_dir to the root of one"
        ) from None
    return {"bids_dir": str(root), "name": name, "subjects": sorted(p.name for p in root.glob("sub-*") if p.is_dir())}


def raw_manifest(config: Config, dataset: str) -> dict[str, Any]:
    """The content of `locate_dataset`, and the digest of each file that was not made by this run: raw data, ready derivatives.

    Raises:
        UserError: what `locate_dataset` finds.
    """
    design = config.datasets[dataset]
    folders = [] if design.simulated else [design.bids_dir]
    if config.preprocessing.engine == "derivatives" and design.derivatives_dir:
        folders.append(design.derivatives_dir)
    return locate_dataset(design) | {"manifest": manifest(*folders)}


def validate_raw(config: Config, dataset: str) -> dict[str, Any]:
    """Check that every subject of a raw data set has what preprocessing and trials need.

    Per subject: a T1w image, runs, and all the runs that the split names; per image: header, data read through, no NaN, TR
    (sane, and the same in header and sidecar); per run: enough volumes, events with their columns, onsets inside the run, a trial
    whose window fits. Each video that is going to be read is there and whole; those of adaptation runs alone stay closed.
    With the engine `derivatives` the raw images are not needed: the runs are those of the derivatives, with masks and confounds.

    Returns:
        what was found: `locate_dataset`'s content, and `runs` of each subject.

    Raises:
        UserError: all the problems together, each with file, field, what was found, what is expected, and the remedy.
    """
    design = config.datasets[dataset]
    report = locate_dataset(design)
    images = Path(design.bids_dir)
    space = None
    if config.preprocessing.engine == "derivatives":
        images, space = Path(design.derivatives_dir or ""), config.preprocessing.space
        if not design.derivatives_dir or not images.is_dir():
            raise UserError(
                f"datasets.{dataset}.derivatives_dir",
                f"found {design.derivatives_dir!r}, expected an existing folder, since the engine "
                "'derivatives' reads ready fMRIPrep output; correct it, or choose another engine",
            )
    problems: list[str] = []
    report["runs"] = {}
    clips: set[str] = set()
    for subject in subjects(design):
        runs, found = _subject_problems(config, design, subject, images, space, clips)
        problems += found
        report["runs"][subject] = runs
    problems += _clip_problems(Path(design.bids_dir) / "stimuli", sorted(clips))
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(str(design.bids_dir), *problems[:SHOWN], *more)
    return report


def _subject_problems(
    config: Config,
    dataset: Dataset,
    subject: str,
    images: Path,
    space: str | None,
    clips: set[str],
) -> tuple[list[str], list[str]]:
    """Runs of a subject, and what is wrong with them; `space` is that of derivatives, None for raw images.

    Adds to `clips` those that will be read.
    """
    root = Path(dataset.bids_dir)
    for folder in {root, images}:
        if not (folder / f"sub-{subject}").is_dir():
            there = ", ".join(sorted(p.name for p in folder.glob("sub-*") if p.is_dir())) or "none"
            return [], [f"{folder}: found no sub-{subject} (there is {there}); correct train_subjects or validation_subjects"]
    try:
        if space:
            runs = find_preprocessed(images, subject, dataset.session, dataset.task, space, config.preprocessing.resolution)
        else:
            runs = find_runs(images, subject, dataset.session, dataset.task, space=None, desc=None)
        events = find_runs(root, subject, dataset.session, dataset.task, "events", [".tsv"])
    except UserError as error:
        return [], [str(error)]
    problems = [] if space else _t1w_problems(root, subject)
    if not runs:
        session = f"/ses-{dataset.session}" if dataset.session else ""
        problems.append(
            f"{images}/sub-{subject}{session}/func: found no task-{dataset.task} BOLD run; correct the task, session or space configured"
        )
    named = [*dataset.adaptation_runs, *dataset.test_runs] if runs and subject in dataset.validation_subjects else []
    if absent := [r for r in named if r not in runs]:
        problems.append(
            f"sub-{subject}: found runs {', '.join(runs)}, expected also {', '.join(absent)}; correct adaptation_runs or test_runs"
        )
    for label, bold in runs.items():
        # derivatives are read next, before anything is computed
        if image_problems := _image_problems(bold, 4, may_hold_nan=space is None):
            problems += image_problems
            continue
        problems += repetition_time_problems(bold, images)
        problems += _event_problems(config, bold, events.get(label), subject in dataset.train_subjects or label in dataset.test_runs, clips)
    return list(runs), problems


def _t1w_problems(root: Path, subject: str) -> list[str]:
    t1w = find_t1w(root, subject)
    if t1w is None:
        return [f"sub-{subject}: found no anat/*_T1w.nii.gz, expected one; without it nothing can be aligned to the template"]
    return _image_problems(t1w, 3)


def _image_problems(path: Path, ndim: int, *, may_hold_nan: bool = True) -> list[str]:
    try:
        image = load_image(path, ndim)
        if lacking := missing_bytes(path, image):
            return [f"{path}: found {lacking} bytes fewer than the header's shape {image.shape} needs; {FETCH_AGAIN}"]
        if may_hold_nan and image.get_data_dtype().kind == "f":
            image_data(image)
    except UserError as error:
        return [str(error)]
    return []


def repetition_time_problems(bold: Path, root: Path) -> list[str]:
    """A TR that is missing, not sane, or not the same in header and JSON sidecar."""
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


def _event_problems(config: Config, bold: Path, path: Path | None, opened: bool, clips: set[str]) -> list[str]:
    if path is None:
        return [f"{bold}: found no events.tsv of the same run, expected one; add it"]
    try:
        events = read_events(path)
    except UserError as error:
        return [str(error)]
    image = load_image(bold, 4)
    n, tr = image.shape[3], repetition_time(image)
    length = n * tr
    outside = events.loc[(events["onset"] < 0) | (events["onset"] >= length), "onset"]
    problems = [f"{path}: onset: found {onset:g} s, expected 0 to {length:g} s, the length of the run; correct it" for onset in outside]
    if opened:
        clips |= set(events["stim_file"])
    needed = math.ceil((events["onset"].min() + config.bold.delay) / tr) + config.bold.n_volumes
    if not problems and n < needed:
        problems.append(
            f"{bold}: volumes: found {n}, expected at least {needed} for the first trial's window of {config.bold.n_volumes} volumes "
            f"{config.bold.delay:g} s after its onset; take the run out, or change bold.n_volumes or bold.delay"
        )
    return problems


def _clip_problems(folder: Path, clips: Sequence[str]) -> list[str]:
    if absent := [clip for clip in clips if not (folder / clip).is_file()]:
        shown = ", ".join(absent[:3])
        return [f"{folder}: stim_file: found {len(absent)} file(s) of the events that do not exist there ({shown}); add or rename them"]
    problems = []
    for clip in tqdm(clips, "videos", mininterval=5):
        try:
            check_video(folder / clip)
        except UserError as error:
            problems.append(str(error))
    return problems
