"""Contents of a BIDS folder: subjects, sessions, tasks and runs, with images and events of each run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from boldscribe.config.data_settings import Dataset
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.checks import locate_dataset
from boldscribe.data.events import TIMES
from boldscribe.data.layout import find_events, find_runs, find_t1w, metadata, name_parts, run_files
from boldscribe.data.stimulus_files import clean_path, other_spellings
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.table_files import read_table
from boldscribe.starting.known import recognised

STIMULUS_COLUMNS = ("stim_file", "stimulus", "stim_id", "stimulus_name", "stim_name", "stim", "video", "clip", "filename")
DESCRIPTION_COLUMNS = ("description", "clip_description", "caption", "sentence")
TEST_TRIALS = 20  # of a target subject, if half of the runs have them
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}


@dataclass
class Survey:
    """Findings about the chosen tasks and sessions.

    Attributes:
        root, name: folder and name of the data set.
        known: section of the data set, if it is recognised.
        tasks, sessions: the chosen ones; None for files outside a session.
        others: further tasks and sessions, with their number of runs.
        runs: run labels of each subject.
        repetition_times: from the sidecars (s), with the number of runs.
        first_onsets: onset of the first stimulus of each run (s).
        fieldmaps: subjects with field maps.
        stimuli: stimuli in the events, with the number of trials.
        actions: trial types of each stimulus.
        column: column of the events that names stimuli; None if there is none.
        columns: columns that the events of all runs have; None if there are no events.
        images: paths of T1w and BOLD images.
        unfetched: those that are links without content, as git-annex leaves them.
        problems: what is missing or wrong, one sentence each.
        images_root: derivatives in which the runs are; None if the data set itself has BOLD.
    """

    root: Path
    name: str
    known: Dataset | None = None
    tasks: list[str] = field(default_factory=list)
    sessions: list[str | None] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    runs: dict[str, list[str]] = field(default_factory=dict)
    repetition_times: Counter[float] = field(default_factory=Counter)
    first_onsets: list[float] = field(default_factory=list)
    fieldmaps: list[str] = field(default_factory=list)
    stimuli: Counter[str] = field(default_factory=Counter)
    actions: dict[str, set[str]] = field(default_factory=dict)
    column: str | None = None
    columns: set[str] | None = None
    images: list[Path] = field(default_factory=list)
    unfetched: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    images_root: Path | None = None

    @property
    def task(self) -> str | list[str]:
        """The tasks, as the configuration states them."""
        return self.tasks[0] if len(self.tasks) == 1 else self.tasks

    @property
    def session(self) -> str | list[str] | None:
        """The sessions, as the configuration states them."""
        return self.sessions[0] if len(self.sessions) == 1 else [session for session in self.sessions if session]

    @property
    def choice(self) -> RunChoice:
        """The chosen runs."""
        return Dataset(task=self.task, session=self.session).choice

    @property
    def images_folder(self) -> Path:
        """Folder of the runs."""
        return self.images_root or self.root

    @property
    def repetition_time(self) -> float | None:
        """That of most runs (s); None if none is known."""
        return next((tr for tr, _ in self.repetition_times.most_common(1)), None)

    @property
    def complete(self) -> list[str]:
        """Subjects with at least one run."""
        return [s for s, runs in self.runs.items() if runs]


def survey(
    root: Path, tasks: Sequence[str] = (), sessions: Sequence[str] = (), column: str | None = None, derivatives: Path | None = None
) -> Survey:
    """Survey a raw BIDS data set without opening images.

    Args:
        root: root of the data set.
        tasks, sessions: BIDS labels, if there are several; those of a known data set by default.
        column: column of the events that names the stimuli; by default the first of `STIMULUS_COLUMNS` that a run has.
        derivatives: preprocessed data, whose runs count if the data set has events, but no BOLD.

    Raises:
        UserError: no BIDS data set, no BOLD in it, several tasks or sessions and none chosen, or a chosen one that does not exist.
    """
    name = locate_dataset(Dataset(bids_dir=str(root)))["name"]
    description = json.loads((root / "dataset_description.json").read_text())
    found = Survey(root, name, recognised(name, json.dumps(description)), column=column)
    if not (bold := _bold(root)) and derivatives is not None:
        found.images_root, bold = derivatives, _bold(derivatives)
    if not bold:
        where = f"{root} or {derivatives}" if derivatives else str(root)
        raise UserError(
            where, "found no sub-*/[ses-*/]func/*_bold.nii[.gz], expected one per run; pass the root of a raw data set, or --derivatives"
        )
    named = [dict(part.partition("-")[::2] for part in path.name.split("_")) for path in bold]
    of_known = found.known.choice if found.known else RunChoice(())
    found.tasks = _chosen("--task", "task", Counter(e.get("task", "") for e in named), tasks, of_known.tasks, found)
    of_tasks = [e for e in named if e.get("task") in found.tasks]
    there = Counter(e.get("ses", "") for e in of_tasks)
    found.sessions = [label or None for label in _chosen("--session", "session", there, sessions, of_known.sessions, found)]
    for folder in sorted(p for p in found.images_folder.glob("sub-*") if p.is_dir()):
        _survey_subject(found, folder.name.removeprefix("sub-"))
    found.unfetched = [path for path in found.images if not path.exists()]
    if found.unfetched:
        number = f"{len(found.unfetched)} of {len(found.images)} images"
        found.problems.insert(0, f"{root}: found {number} as links without content ({found.unfetched[0]}); fetch them")
    return found


def _bold(root: Path) -> list[Path]:
    return sorted({*root.glob("sub-*/func/*_bold.nii*"), *root.glob("sub-*/ses-*/func/*_bold.nii*")})


def _chosen(option: str, what: str, there: Counter[str], named: Sequence[str], known: Sequence[str | None], found: Survey) -> list[str]:
    """Return the tasks or sessions to use: those named, those of a known data set, or the only one."""
    wanted = named or [label for label in known if label is not None and label in there]
    listed = ", ".join(f"{label or '(none)'} ({n} runs)" for label, n in sorted(there.items()))
    if not wanted and len(there) > 1:
        raise UserError(str(found.root), f"{what}s: found {listed}, expected one; choose with {option}, which may be given several times")
    if absent := [label for label in wanted if label not in there]:
        raise UserError(option, f"found {', '.join(map(repr, absent))}, expected one of: {listed}")
    chosen = list(dict.fromkeys(wanted)) or list(there)
    found.others += [f"{what} {label or '(none)'} ({n} runs)" for label, n in sorted(there.items()) if label not in chosen]
    return chosen


def _survey_subject(found: Survey, subject: str) -> None:
    """Survey images, events and sidecars of a subject."""
    root = found.root
    if not subject.isalnum():
        found.problems.append(f"sub-{subject}: expected only letters and digits in a label; rename the subject")
        return
    try:
        runs = _runs(found, subject)
        events = find_events(root, subject, found.choice, runs)
    except UserError as error:
        found.problems.append(f"sub-{subject}: {error}")
        return
    found.runs[subject] = list(runs)
    if not runs:
        found.problems.append(f"sub-{subject}: found no BOLD run of {found.choice.words}; the subject is excluded from the split")
        return
    t1w = find_t1w(root, subject)
    found.images += [*([t1w] if t1w else []), *runs.values()]
    if t1w is None and found.images_root is None:
        found.problems.append(f"sub-{subject}: found no anat/*_T1w.nii.gz, expected one; without it nothing can be aligned to the template")
    if list(root.glob(f"sub-{subject}/**/fmap/*.nii*")):
        found.fieldmaps.append(subject)
    for label, path in runs.items():
        _survey_sidecar(found, path)
        if label in events:
            _survey_events(found, events[label])
        else:
            found.problems.append(f"{path}: found no events.tsv for the same run, expected one; add it")


def _runs(found: Survey, subject: str) -> dict[str, Path]:
    """Return a subject's runs: of the data set itself, or of the derivatives, in any of their spaces."""
    if found.images_root is None:
        return find_runs(found.root, subject, found.choice, space=None, desc=None)
    paths = [path for path in run_files(found.images_root, subject, found.choice) if name_parts(path).get("desc") == "preproc"]
    return dict(sorted((found.choice.label(name_parts(path)), path) for path in paths))


def _survey_sidecar(found: Survey, path: Path) -> None:
    try:
        tr = metadata(path, found.images_folder).get("RepetitionTime")
    except UserError as error:
        found.problems.append(str(error))
        return
    if isinstance(tr, (int, float)):
        found.repetition_times[float(tr)] += 1
    else:
        found.problems.append(f"{path}: RepetitionTime: found {tr!r} in its JSON sidecar, expected seconds; add it")


def _survey_events(found: Survey, path: Path) -> None:
    """Survey columns, onsets and stimuli of a run's events."""
    try:
        table = read_table(path)
    except UserError as error:
        found.problems.append(str(error))
        return
    columns = {str(column) for column in table}
    found.columns = columns if found.columns is None else found.columns & columns
    found.column = found.column or next((c for c in STIMULUS_COLUMNS if c in table), None)
    needed = [*TIMES, found.column or "stim_file"]
    if absent := [c for c in needed if c not in table]:
        found.problems.append(
            f"{path}: columns: found {', '.join(table.columns)}; expected also {', '.join(absent)}; add them (BIDS task events)"
        )
    if found.column == "stim_file" and "trial_type" not in table and found.known is None:
        found.problems.append(
            f"{path}: columns: found no trial_type, expected the action that each clip shows; add it, or name a stimulus_manifest"
        )
    column = found.column if found.column in table else None
    shown = table[table[column].notna()] if column else table
    if "onset" in table and not (onsets := pd.to_numeric(shown["onset"], errors="coerce").dropna()).empty:
        found.first_onsets.append(float(onsets.min()))
    if not column:
        return
    if shown.empty:
        found.problems.append(f"{path}: {column}: found no row with a stimulus, expected one per trial")
    found.stimuli.update(shown[column])
    kinds: Any = shown["trial_type"].fillna("") if "trial_type" in shown else [""] * len(shown)
    for stimulus, kind in zip(shown[column], kinds, strict=True):
        found.actions.setdefault(stimulus, set()).add(kind)


def compare_videos(found: Survey, folder: Path) -> tuple[list[str], list[str]]:
    """Compare the events' `stim_file` with a folder of videos.

    Returns:
        files named by the events but missing in the folder, and videos that no event names; relative to the folder.

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(str(folder), "the video folder does not exist; name it with --stimuli, or put the videos there")
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in VIDEOS and p.exists()}
    named = {path for name in found.stimuli if (path := clean_path(name))} if found.column == "stim_file" else set()
    spelled = other_spellings(folder, named)
    named = {spelled.get(name, name) for name in named}
    return sorted(n for n in named - there if not (folder / n).is_file()), sorted(there - named)


def label_of(text: str) -> str:
    """Return a name for the configuration: the letters and digits of a folder's name."""
    return "".join(c for c in text if c.isascii() and c.isalnum()) or "mine"


def split_of(found: Survey) -> dict[str, list[str]]:
    """Propose a split: the last subjects (13 %, at least two of four or more) are targets, with their last quarter of runs as test.

    More runs, up to half, are tested if a quarter of them has fewer than `TEST_TRIALS` trials.
    """
    subjects = found.complete
    n = max(min(2, len(subjects) - 2), round(0.13 * len(subjects)), 1 if len(subjects) > 1 else 0)
    sources, targets = subjects[: len(subjects) - n], subjects[len(subjects) - n :]
    common = [r for r in found.runs[targets[0]] if all(r in found.runs[t] for t in targets)] if targets else []
    per_run = found.stimuli.total() / max(1, sum(map(len, found.runs.values())))
    enough = math.ceil(TEST_TRIALS / per_run) if per_run else 1
    n_test = max(round(len(common) / 4), min(enough, len(common) // 2), 1) if len(common) > 1 else 0
    if not targets:
        found.problems.append(f"subjects: found {len(subjects)} with runs, expected at least two: one to train on and one to decode")
    elif not n_test:
        there = "; ".join(f"sub-{t} has {', '.join(found.runs[t])}" for t in targets)
        found.problems.append(f"runs: found fewer than two that all target subjects have ({there}), expected one to adapt and one to test")
    return {
        "train_subjects": sources,
        "validation_subjects": targets,
        "adaptation_runs": common[: len(common) - n_test],
        "test_runs": common[len(common) - n_test :] if n_test else [],
    }
