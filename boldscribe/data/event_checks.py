"""Preflight of a data set's events and videos, over all subjects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boldscribe.config.data_settings import Bold, Dataset
from boldscribe.data import had
from boldscribe.data.events import described, read_events
from boldscribe.data.images import load_image
from boldscribe.data.layout import find_runs
from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.clips import broken_clips, missing_clips


@dataclass(frozen=True)
class RunEvents:
    """The events of a run.

    Attributes:
        path: `_events.tsv`.
        table: from `read_events` or `stimulus_events`; without rows if the file cannot be read.
    """

    path: Path
    table: pd.DataFrame


Events = dict[str, dict[str, RunEvents]]  # by subject and run


def read_all_events(design: Dataset) -> tuple[Events, list[str]]:
    """Read the events of all runs of all subjects as stored, and list the problems of their files."""
    events: Events = {}
    problems = []
    for subject in design.subjects:
        try:
            files = find_runs(design.bids_dir, subject, design.session, design.task, "events", [".tsv"], variant=design.entities)
        except UserError as error:
            problems.append(str(error))
            continue
        events[subject] = {}
        for run, path in files.items():
            try:
                events[subject][run] = RunEvents(path, read_events(path, design.stimulus_column, design.description_column))
            except UserError as error:
                events[subject][run] = RunEvents(path, pd.DataFrame())
                problems.append(str(error))
    return events, problems


def first_onsets(events: Events) -> dict[str, float]:
    """Return the first onset of each run (s), by events file."""
    return {str(run.path): float(run.table["onset"].iloc[0]) for runs in events.values() for run in runs.values() if len(run.table)}


def described_events(design: Dataset, events: Events, lead_in: float, problems: list[str]) -> Events:
    """Return the trials of every run (`stimulus_events`); append the errors of `described` to `problems`."""
    trials: Events = {}
    for subject, runs in events.items():
        for run, one in ((run, one) for run, one in runs.items() if len(one.table)):
            try:
                trials.setdefault(subject, {})[run] = RunEvents(one.path, described(one.table, design, one.path, lead_in))
            except UserError as error:
                problems.append(str(error))
    return trials


def onset_problems(settings: Bold, bold: Path, tr: float, events: RunEvents, lead_in: float) -> list[str]:
    """Return the problems of a run's onsets: onsets outside the run, or a run too short for its first trial's window."""
    if events.table.empty:
        return []
    n = load_image(bold, 4).shape[3]
    length = n * tr
    onsets = events.table["onset"] + lead_in
    shift = f" (lead-in of {lead_in:g} s added)" if lead_in else ""
    problems = [
        f"{events.path}: onset: found {onset:g} s{shift}, expected 0 to {length:g} s, the length of the run; correct it"
        for onset in onsets[(onsets < 0) | (onsets >= length)]
    ]
    needed = math.ceil((onsets.min() + settings.delay) / tr) + settings.n_volumes
    if settings.signal == "window" and not problems and n < needed:
        problems.append(
            f"{bold}: volumes: found {n}, expected at least {needed} for the first trial's window of {settings.n_volumes} volumes "
            f"{settings.delay:g} s after its onset; remove the run, or change bold.n_volumes or bold.delay"
        )
    return problems


def clips_to_read(design: Dataset, events: Events) -> list[str]:
    """Return the clips of source subjects and of target subjects' test runs; clips shown only in adaptation runs stay unread."""
    trained, tested = _by_side(design, events, "stim_file")
    return sorted(trained | tested)


def sources_of_both_sides(design: Dataset, events: Events) -> tuple[set[str], set[str]]:
    """Return the video sources of source subjects' clips, and of the clips in target subjects' test runs."""
    return _by_side(design, events, "source")


def _by_side(design: Dataset, events: Events, column: str) -> tuple[set[str], set[str]]:
    trained = [run.table for subject in design.train_subjects for run in events.get(subject, {}).values()]
    of_targets = [events.get(subject, {}) for subject in design.validation_subjects]
    tested = [runs[label].table for runs in of_targets for label in design.test_runs if label in runs]
    return {v for table in trained for v in table[column]}, {v for table in tested for v in table[column]}


def check_clips(folder: Path, clips: Sequence[str], largest_share: float, workers: int) -> tuple[dict[str, str], list[str]]:
    """Decode the clips that will be read.

    Args:
        folder: folder of the videos.
        clips: `stim_file` of each.
        largest_share: largest accepted share of broken clips.
        workers: number of processes.

    Returns:
        reason why a clip cannot be decoded, by `stim_file`; and problems: missing clips, or too many broken ones.
    """
    if absent := missing_clips(folder, clips):
        shown = ", ".join(absent[:3])
        return {}, [f"{folder}: stim_file: found {len(absent)} file(s) of the events that do not exist there ({shown}); add or rename them"]
    broken = broken_clips(folder, clips, workers)
    if len(broken) > largest_share * len(clips):
        shown = "; ".join(f"{clip}: {why}" for clip, why in list(broken.items())[:3])
        return broken, [
            f"{folder}: found {len(broken)} of {len(clips)} videos that cannot be decoded, expected at most {largest_share:.0%} "
            f"(stimuli.largest_broken_share): {shown}"
        ]
    return broken, []


def missing_responses(events: Events) -> dict[str, int]:
    """Count each subject's trials without a response, where the events have a response column."""
    return {s: int(sum((~run.table["answered"]).sum() for run in runs.values())) for s, runs in events.items()}


def remarks(design: Dataset, events: Events) -> dict[str, list[str]]:
    """Return remarks for readers of the results, by subject: missing responses, and deviations from HAD's design."""
    found: dict[str, list[str]] = {}
    unanswered = missing_responses(events)
    for subject, runs in events.items():
        if unanswered[subject]:
            n_trials = sum(len(run.table) for run in runs.values())
            found.setdefault(subject, []).append(f"{unanswered[subject]} of {n_trials} trials without response")
        if design.adapter == "had":
            actions: Mapping[str, Sequence[str]] = {label: run.table["action"].tolist() for label, run in runs.items()}
            found.setdefault(subject, []).extend(had.cycle_remarks(actions))
    return {subject: lines for subject, lines in found.items() if lines}
