"""Preflight of a raw BIDS data set: catch errors that would otherwise stop the pipeline hours later."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.checked import Checked
from boldscribe.data.event_checks import (
    check_clips,
    check_onsets,
    clips_to_read,
    described_events,
    first_onsets,
    missing_responses,
    read_all_events,
    remarks,
    sources_of_both_sides,
    spelled_as_files,
    unusable_trials,
)
from boldscribe.data.events import lead_in_of
from boldscribe.data.images import FETCH_AGAIN, image_data, load_image, missing_bytes, repetition_time
from boldscribe.data.layout import find_runs, find_t1w, metadata
from boldscribe.data.preprocessed import preprocessed_runs
from boldscribe.data.problems import grouped
from boldscribe.data.splits import separate_sources
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import manifest

TR_RANGE = (0.2, 10.0)


def locate_dataset(dataset: Dataset) -> dict[str, Any]:
    """Check that a data set's folder exists, and return its path, name and subjects.

    Raises:
        UserError: the folder does not exist or holds no BIDS data set.
    """
    root = Path(dataset.bids_dir)
    if not root.is_dir():
        raise UserError(str(root), "bids_dir: the folder does not exist; download the data set there or correct the path")
    try:
        name = json.loads((root / "dataset_description.json").read_text())["Name"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            str(root / "dataset_description.json"),
            f"found no BIDS description with a Name ({error}); set bids_dir to the root of a BIDS data set",
        ) from None
    return {"bids_dir": str(root), "name": name, "subjects": sorted(p.name for p in root.glob("sub-*") if p.is_dir())}


def raw_manifest(config: Config, dataset: str) -> dict[str, Any]:
    """Return `locate_dataset`'s content and a digest of each file that this run did not make: raw data, ready derivatives.

    Raises:
        UserError: see `locate_dataset`.
    """
    design = config.datasets[dataset]
    folders = [] if design.simulated else [design.bids_dir, *([design.stimuli_dir] if design.stimuli_dir else [])]
    if config.preprocessing.reads_derivatives and design.derivatives_dir:
        folders.append(design.derivatives_dir)
    return locate_dataset(design) | {"manifest": manifest(*folders)}


def validate_raw(config: Config, dataset: str, workers: int = 1) -> dict[str, Any]:
    """Check that a raw data set has what preprocessing and trials need (`inspect_raw`).

    Returns:
        the findings of `inspect_raw`.

    Raises:
        UserError: all problems at once, one line for each kind, with file, field, found value, expected value, and remedy.
    """
    report, problems = inspect_raw(config, dataset, workers)
    if problems:
        raise UserError(str(config.datasets[dataset].bids_dir), *grouped(problems))
    return report


def inspect_raw(config: Config, dataset: str, workers: int = 1) -> tuple[dict[str, Any], list[str]]:
    """Inspect what preprocessing and trials need of every subject of a raw data set.

    Per subject: a T1w image, runs, and all runs named by the split. Per image: header, complete data, no NaN, and a plausible TR that
    agrees between header and sidecar. Per run: enough volumes, events with their columns, and a trial whose window fits. Trials that
    cannot be used are left out later, but not nearly all may be so. Every video that later steps read must exist and is decoded as they
    will decode it. The few that fail are listed, and their trials are excluded. Videos shown only in adaptation runs are not opened. In
    a rotation this holds for each fold. With the engine `derivatives`, raw images are not needed: the runs are those of the derivatives,
    with masks and confounds.

    Args:
        config: the experiment.
        dataset: its name in `config.datasets`.
        workers: number of processes that decode videos.

    Returns:
        the findings: `locate_dataset`'s content, `runs` of each subject, the attributes of `Checked`, and, by subject,
        `missing_responses` and `remarks` for readers of the results; and all problems, with which the findings are incomplete.

    Raises:
        UserError: folders do not exist, or the strict split leaves no clip.
    """
    design = config.datasets[dataset]
    report = locate_dataset(design)
    images = _images_folder(config, dataset)
    problems: list[str] = []
    runs: dict[str, dict[str, Path]] = {}
    for subject in design.subjects:
        runs[subject], found = _subject_problems(config, design, subject, images)
        problems += found
    report["runs"] = {subject: list(labels) for subject, labels in runs.items()}
    events = read_all_events(design, runs, problems)
    lead_in = 0.0
    if onsets := first_onsets(events):
        try:
            lead_in = lead_in_of(design, onsets)
        except UserError as error:
            problems.append(str(error))
    shown = described_events(design, events, lead_in, problems)
    for subject, bolds in runs.items():
        for label, bold in bolds.items():
            if found := _image_problems(bold, 4, may_hold_nan=config.preprocessing.engine != "derivatives"):
                problems += found
                continue
            problems += repetition_time_problems(bold, images)
            if label in shown.get(subject, {}):
                shown[subject][label], found = check_onsets(config.bold, bold, repetition_time(load_image(bold, 4)), shown[subject][label])
                problems += found
    problems += unusable_trials(design, shown)
    shown, respelled = spelled_as_files(design, shown)
    folds = {name: config.datasets[name] for name in config.folds(dataset)}
    clips = sorted({clip for fold in folds.values() for clip in clips_to_read(fold, shown)})
    broken, found = check_clips(design.videos, clips, config.stimuli.largest_broken_share, workers)
    if problems := problems + found:
        return report, problems
    kept = {name: separate_sources(fold, name, config.seed, *sources_of_both_sides(fold, shown)) for name, fold in folds.items()}
    for_training, for_testing = ({name: sides[i] for name, sides in kept.items()} for i in (0, 1))
    report |= Checked(lead_in, broken, for_training, for_testing, respelled).as_report()
    return report | {"missing_responses": missing_responses(shown), "remarks": remarks(design, shown, respelled)}, []


def _images_folder(config: Config, dataset: str) -> Path:
    """Return the folder of the images that the engine reads."""
    design = config.datasets[dataset]
    if config.preprocessing.engine != "derivatives":
        return Path(design.bids_dir)
    if not design.derivatives_dir or not Path(design.derivatives_dir).is_dir():
        raise UserError(
            f"datasets.{dataset}.derivatives_dir",
            f"found {design.derivatives_dir!r}, expected an existing folder, since the engine "
            "'derivatives' reads ready fMRIPrep output; correct it, or choose another engine",
        )
    return Path(design.derivatives_dir)


def _subject_problems(config: Config, design: Dataset, subject: str, images: Path) -> tuple[dict[str, Path], list[str]]:
    """Return a subject's runs by label, and the problems of the subject's folder."""
    root, ready = Path(design.bids_dir), config.preprocessing.engine == "derivatives"
    for folder in {images} if ready else {root, images}:
        if not (folder / f"sub-{subject}").is_dir():
            there = ", ".join(sorted(p.name for p in folder.glob("sub-*") if p.is_dir())) or "none"
            return {}, [f"{folder}: found no sub-{subject} (present: {there}); correct train_subjects or validation_subjects"]
    try:
        if ready:
            runs = preprocessed_runs(images, subject, design, config.preprocessing)
        else:
            runs = find_runs(images, subject, design.session, design.task, space=None, desc=None)
    except UserError as error:
        return {}, [str(error)]
    problems = [] if config.preprocessing.reads_derivatives else _t1w_problems(root, subject)
    if config.preprocessing.engine == "minimal":
        from boldscribe.data.transforms import transform_problems

        problems += transform_problems(Path(design.derivatives_dir or ""), root, subject, runs, config.preprocessing.space)
    if not runs:
        session = f"/ses-{design.session}" if design.session else ""
        problems.append(
            f"{images}/sub-{subject}{session}/func: found no task-{design.task} BOLD run; correct the configured task, session or space"
        )
    named = [*design.adaptation_runs, *design.test_runs] if runs and subject in design.targets else []
    if absent := [r for r in named if r not in runs]:
        problems.append(
            f"sub-{subject}: found runs {', '.join(runs)}, expected also {', '.join(absent)}; correct adaptation_runs or test_runs"
        )
    return runs, problems


def _t1w_problems(root: Path, subject: str) -> list[str]:
    t1w = find_t1w(root, subject)
    if t1w is None:
        return [f"sub-{subject}: found no anat/*_T1w.nii.gz, expected one; without it nothing can be aligned to the template"]
    return _image_problems(t1w, 3)


def _image_problems(path: Path, ndim: int, *, may_hold_nan: bool = True) -> list[str]:
    """Return the problems of an image; without `may_hold_nan`, its values are not read, since the next step reads them first."""
    try:
        image = load_image(path, ndim)
        if lacking := missing_bytes(path, image):
            return [f"{path}: found {lacking} bytes fewer than the shape {image.shape} in the header requires; {FETCH_AGAIN}"]
        if may_hold_nan and image.get_data_dtype().kind == "f":
            image_data(image)
    except UserError as error:
        return [str(error)]
    return []


def repetition_time_problems(bold: Path, root: Path) -> list[str]:
    """Return the problems of a TR: missing, implausible, or different in header and JSON sidecar."""
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
