"""Preflight of a raw BIDS data set: catch errors that would otherwise stop the pipeline hours later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.checked import Checked
from boldscribe.data.derivative_checks import absent_runs, check_runs, grid_problems
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
from boldscribe.data.images import FETCH_AGAIN, image_data, load_image, missing_bytes
from boldscribe.data.layout import find_runs, find_t1w
from boldscribe.data.preprocessed import preprocessed_runs
from boldscribe.data.problems import grouped
from boldscribe.data.splits import separate_sources
from boldscribe.data.timing import run_repetition_time
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import manifest


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
    """Return `locate_dataset`'s content and a digest of each file that this run did not make: raw data, descriptions, derivatives.

    Raises:
        UserError: see `locate_dataset`.
    """
    design = config.datasets[dataset]
    given = [] if design.simulated else [design.bids_dir, design.stimuli_dir]
    given += [design.derivatives_dir] if config.preprocessing.reads_derivatives else []
    given += [str(path) for path in sorted(design.annotations) if path.is_file()]
    folders: list[str] = []
    for place in filter(None, given):
        if not any(Path(place).absolute().is_relative_to(Path(folder).absolute()) for folder in folders):
            folders.append(place)
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

    Per subject: a T1w image, runs, and all runs named by the split; of subjects trained on, all runs that have events or raw BOLD. Per
    image: header, complete data, no NaN, and a plausible TR. Per run: what `check_runs` reads; enough volumes, events with their
    columns, and a trial whose window fits. Trials that cannot be used are left out later, but not nearly all may be so. Every video that
    later steps read must exist and is decoded as they will decode it. The few that fail are listed, and their trials are excluded. Videos
    shown only in adaptation runs are not opened. In a rotation this holds for each fold.
    With the engine `derivatives`, raw images are not needed: the runs are those of the derivatives, on one grid for all subjects.

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
    found = _inspect_runs(config, design, images)
    problems = found.problems
    report["runs"] = {subject: list(labels) for subject, labels in found.runs.items()}
    events = read_all_events(design, found.runs, problems)
    lead_in = 0.0
    if onsets := first_onsets(events):
        try:
            lead_in = lead_in_of(design, onsets)
        except UserError as error:
            problems.append(str(error))
    shown = described_events(design, events, lead_in, problems)
    for subject, bolds in found.runs.items():
        for label, bold in bolds.items():
            if (tr := found.repetition_times.get(bold)) and label in shown.get(subject, {}):
                shown[subject][label], outside = check_onsets(config.bold, bold, tr, shown[subject][label])
                problems += outside
    problems += unusable_trials(design, shown)
    shown, respelled = spelled_as_files(design, shown)
    folds = {name: config.datasets[name] for name in config.folds(dataset)}
    clips = sorted({clip for fold in folds.values() for clip in clips_to_read(fold, shown)})
    broken, too_many = check_clips(design.videos, clips, config.stimuli.largest_broken_share, workers)
    if problems := problems + too_many:
        return report, problems
    kept = {name: separate_sources(fold, name, config.seed, *sources_of_both_sides(fold, shown)) for name, fold in folds.items()}
    for_training, for_testing = ({name: sides[i] for name, sides in kept.items()} for i in (0, 1))
    report |= Checked(lead_in, broken, for_training, for_testing, respelled).as_report()
    said = remarks(design, shown, respelled)
    both = {subject: [*said.get(subject, []), *found.remarks.get(subject, [])] for subject in design.subjects}
    return report | {
        "missing_responses": missing_responses(shown),
        "remarks": {subject: lines for subject, lines in both.items() if lines},
    }, []


@dataclass(frozen=True)
class _Runs:
    """Runs of all subjects.

    Attributes:
        runs: image by subject and run label.
        repetition_times: of each image without problems (s).
        remarks: by subject.
        problems: of images, and of what belongs to them.
    """

    runs: dict[str, dict[str, Path]] = field(default_factory=dict)
    repetition_times: dict[Path, float] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def _inspect_runs(config: Config, design: Dataset, images: Path) -> _Runs:
    """Find the runs of all subjects, and inspect their images and what belongs to them, but not their events."""
    found, firsts = _Runs(), {}
    for subject in design.subjects:
        runs, problems = _subject_problems(config, design, subject, images)
        sound: dict[str, Path] = {}
        for label, bold in runs.items():
            image_faults, tr = _image_of_run(config, bold, images)
            problems += image_faults
            if tr:
                sound[label], found.repetition_times[bold] = bold, tr
        about = check_runs(config, design, subject, sound, images)
        found.runs[subject] = runs
        found.remarks[subject] = about.remarks + _left_out(design, subject, runs)
        found.problems.extend(problems + about.problems)
        if sound:
            firsts[subject] = next(iter(sound.values()))
    if config.preprocessing.engine == "derivatives":
        found.problems.extend(grid_problems(firsts))
    return found


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
            runs = find_runs(images, subject, design.choice, space=None, desc=None)
    except UserError as error:
        return {}, [str(error)]
    problems = [] if config.preprocessing.reads_derivatives else _t1w_problems(root, subject)
    if not runs:
        problems.append(
            f"{images}/sub-{subject}: found no BOLD run of {design.choice.words}; correct the configured task, session or space"
        )
    of_target = runs and subject in design.targets
    named = [*design.adaptation_runs, *design.test_runs] if of_target else []
    if absent := [entry for entry in named if not any(design.choice.names([entry], run) for run in runs)]:
        problems.append(
            f"sub-{subject}: found runs {', '.join(runs)}, expected also {', '.join(absent)}; correct adaptation_runs or test_runs"
        )
    roles = (design.adaptation_runs, design.test_runs)
    if both := [run for run in runs if of_target and all(design.choice.names(entries, run) for entries in roles)]:
        problems.append(
            f"sub-{subject}: found runs {', '.join(both)} in adaptation_runs and in test_runs, expected test trials that are unseen; "
            "remove them from one"
        )
    if runs and design.missing_runs == "stop" and (lost := [r for r in _lost(design, subject, runs) if r not in absent]):
        problems.append(
            f"sub-{subject}: found runs {', '.join(runs)}, expected also {', '.join(lost)}, of which {root} has events or BOLD; add the "
            f"BOLD to {images}, or go on without by datasets.*.missing_runs: exclude"
        )
    return runs, problems


def _lost(design: Dataset, subject: str, runs: Mapping[str, Path]) -> list[str]:
    """Return the missing runs of a subject who is trained on, in some fold at least."""
    trained = subject in design.train_subjects or design.leave_out is not None
    return absent_runs(design, subject, runs)[0] if trained and runs else []


def _left_out(design: Dataset, subject: str, runs: Mapping[str, Path]) -> list[str]:
    """Return remarks about a subject's runs that are left out."""
    lost, unchosen = _lost(design, subject, runs), absent_runs(design, subject, runs)[1]
    said = [f"run {', '.join(lost)}: left out, since there is no BOLD to read"] if lost else []
    return said + ([f"run {', '.join(unchosen)}: left out, since datasets.*.entities chooses no file of it"] if unchosen else [])


def _image_of_run(config: Config, bold: Path, images: Path) -> tuple[list[str], float]:
    """Return the problems of a run's image, and its TR (s), 0 if there are problems."""
    # values of derivatives are judged inside their mask
    if found := _image_problems(bold, 4, may_hold_nan=config.preprocessing.engine != "derivatives"):
        return found, 0.0
    try:
        return [], run_repetition_time(bold, images)[0]
    except UserError as error:
        return [str(error)], 0.0


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
