"""Preflight of a data set's events and videos, over all subjects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from boldscribe.config.data_settings import Bold, Dataset
from boldscribe.data import had
from boldscribe.data.events import described, read_events, renamed, run_events, with_onset, within_run
from boldscribe.data.images import load_image
from boldscribe.data.reasons import UNUSABLE
from boldscribe.data.stimulus_files import links_that_lead_out, other_spellings
from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.clips import broken_clips, missing_clips

# of a data set's trials: more are no slips, but a wrong column, unit or lead-in
LARGEST_UNUSABLE_SHARE = 0.9


@dataclass(frozen=True)
class RunEvents:
    """The events of a run.

    Attributes:
        path: `_events.tsv`.
        table: from `read_events` or `stimulus_events`.
        notes: remarks on the file (`read_table`).
    """

    path: Path
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> pd.DataFrame:
        """The trials that can be used."""
        return self.table[self.table["reason"] == ""]


Events = dict[str, dict[str, RunEvents]]  # by subject and run


def read_all_events(design: Dataset, runs: Mapping[str, Mapping[str, Path]], problems: list[str]) -> Events:
    """Read the events of runs as stored; append the problems of their files to `problems`.

    Args:
        design: section of the data set.
        runs: BOLD by subject and run.
        problems: list to which problems are appended, also of runs without events.
    """
    events: Events = {}
    for subject, bolds in runs.items():
        try:
            files = run_events(design, subject, bolds)
        except UserError as error:
            problems.append(str(error))
            continue
        problems += [f"{bolds[run]}: found no events.tsv for the same run, expected one; add it" for run in bolds if run not in files]
        events[subject] = {}
        for run, path in files.items():
            notes: list[str] = []
            try:
                table = read_events(path, design.stimulus_column, design.description_column, notes)
            except UserError as error:
                problems.append(str(error))
            else:
                events[subject][run] = RunEvents(path, table, tuple(notes))
    return events


def first_onsets(events: Events) -> dict[str, float]:
    """Return the first onset of each run (s), by events file; of runs with an invalid onset only if all have one."""
    onsets = {str(run.path): run.table["onset"] for run in _each(events) if len(run.table)}
    sound = {path: times for path, times in onsets.items() if (times >= 0).all()}
    valid = {path: times[times >= 0] for path, times in (sound or onsets).items()}
    return {path: float(times.iloc[0]) for path, times in valid.items() if len(times)}


def described_events(design: Dataset, events: Events, lead_in: float, problems: list[str]) -> Events:
    """Return the trials of every run (`stimulus_events`); append the errors of `described` to `problems`."""
    trials: Events = {}
    for subject, runs in events.items():
        trials[subject] = {}
        for run, one in runs.items():
            try:
                trials[subject][run] = replace(one, table=described(one.table, design, one.path, lead_in))
            except UserError as error:
                problems.append(str(error))
    return trials


def check_onsets(settings: Bold, bold: Path, tr: float, events: RunEvents) -> tuple[RunEvents, list[str]]:
    """Mark the trials of a run whose onset is outside it.

    Args:
        settings: length and delay of the window.
        bold: image of the run.
        tr: its repetition time (s).
        events: its trials (`described_events`).

    Returns:
        the trials, and a problem if the run is too short for its first trial's window.
    """
    n = load_image(bold, 4).shape[3]
    events = replace(events, table=within_run(events.table, n * tr))
    onsets = with_onset(events.table)["onset"]
    needed = math.ceil((onsets.min() + settings.delay) / tr) + settings.n_volumes if len(onsets) else 0
    if settings.signal == "window" and n < needed:
        return events, [
            f"{bold}: volumes: found {n}, expected at least {needed} for the first trial's window of {settings.n_volumes} volumes "
            f"{settings.delay:g} s after its onset; remove the run, or change bold.n_volumes or bold.delay"
        ]
    return events, []


def unusable_trials(design: Dataset, events: Events) -> list[str]:
    """Return a problem if no trials, or nearly none, can be used."""
    tables = [run.table for run in _each(events)]
    n_trials, n_usable = sum(map(len, tables)), sum(len(run.usable) for run in _each(events))
    if tables and not n_trials:
        return [
            f"{design.bids_dir}: {design.stimulus_column}: found no row with a stimulus in {len(tables)} events file(s), expected one per "
            "trial; fill in what was shown, or correct stimulus_column"
        ]
    if n_trials and n_trials - n_usable > LARGEST_UNUSABLE_SHARE * n_trials:
        odd = pd.concat([run.table[run.table["reason"] != ""].assign(file=run.path.name) for run in _each(events)])
        reasons = ", ".join(f"{count} ({reason})" for reason, count in odd["reason"].value_counts().items())
        shown = "; ".join(odd["file"].str.cat(odd["detail"], ": ").iloc[:3])
        return [
            f"{design.bids_dir}: events: found {len(odd)} of {n_trials} trials that cannot be used: {reasons}, expected few; such as "
            f"{shown}; correct the events, lead_in or stimulus_column"
        ]
    return []


def _each(events: Events) -> Iterator[RunEvents]:
    return (run for runs in events.values() for run in runs.values())


def clips_to_read(design: Dataset, events: Events) -> list[str]:
    """Return the clips of source subjects and of target subjects' test runs; clips shown only in adaptation runs stay unread."""
    trained, tested = _by_side(design, events, "stim_file")
    return sorted(trained | tested)


def sources_of_both_sides(design: Dataset, events: Events) -> tuple[set[str], set[str]]:
    """Return the video sources of source subjects' clips, and of the clips in target subjects' test runs."""
    return _by_side(design, events, "source")


def _by_side(design: Dataset, events: Events, column: str) -> tuple[set[str], set[str]]:
    trained = [run.usable for subject in design.train_subjects for run in events.get(subject, {}).values()]
    of_targets = [events.get(subject, {}) for subject in design.validation_subjects]
    tested = [run.usable for runs in of_targets for label, run in runs.items() if design.choice.names(design.test_runs, label)]
    return {v for table in trained for v in table[column]}, {v for table in tested for v in table[column]}


def spelled_as_files(design: Dataset, events: Events) -> tuple[Events, dict[str, str]]:
    """Write the clips of the trials as their files are spelled.

    Returns:
        the trials, and the file by `stim_file` where they differ (`other_spellings`).
    """
    names = other_spellings(design.videos, sorted({name for run in _each(events) for name in run.usable["stim_file"]}))
    spelled = {s: {label: replace(run, table=renamed(run.table, names)) for label, run in runs.items()} for s, runs in events.items()}
    return spelled, names


def check_clips(folder: Path, clips: Sequence[str], largest_share: float, workers: int) -> tuple[dict[str, str], list[str]]:
    """Decode the clips that will be read.

    Args:
        folder: folder of the videos.
        clips: `stim_file` of each.
        largest_share: largest accepted share of broken clips.
        workers: number of processes.

    Returns:
        reason why a clip cannot be decoded, by `stim_file`; and problems: missing clips, links that lead out of the folder, which are
        not opened, or too many broken clips.
    """
    if outside := links_that_lead_out(folder, clips):
        shown = ", ".join(f"{clip} -> {target}" for clip, target in list(outside.items())[:3])
        return {}, [
            f"{folder}: stim_file: found {len(outside)} link(s) that lead out of the folder ({shown}), expected files in it; they are not "
            "opened; set stimuli_dir to the folder that holds the files, or copy them"
        ]
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


def remarks(design: Dataset, events: Events, respelled: Mapping[str, str]) -> dict[str, list[str]]:
    """Return remarks for readers of the results, by subject.

    They are missing responses, trials that cannot be used, files with odd formatting, and deviations from HAD's design.

    Args:
        design: section of the data set.
        events: trials of all runs (`check_onsets`, `spelled_as_files`).
        respelled: clips that the events spell differently.
    """
    found: dict[str, list[str]] = {}
    unanswered = missing_responses(events)
    for subject, runs in events.items():
        trials = pd.concat([run.table for run in runs.values()]) if runs else pd.DataFrame(columns=["reason", "stim_file"])
        lines = [f"{unanswered[subject]} of {len(trials)} trials without response"] if unanswered[subject] else []
        counts = {reason: int((trials["reason"] == reason).sum()) for reason in UNUSABLE}
        lines += [f"{count} of {len(trials)} trials left out: {reason}" for reason, count in counts.items() if count]
        if empty := [run for run, one in runs.items() if one.table.empty]:
            lines.append(f"run(s) {', '.join(empty)} without a trial")
        if n := int(trials["stim_file"].isin(set(respelled.values())).sum()):
            lines.append(f"clips of {n} trials are spelled differently in the events")
        noted = Counter(note for run in runs.values() for note in run.notes)
        lines += [f"{note} in {count} events file(s)" for note, count in noted.items()]
        if design.adapter == "had":
            actions: Mapping[str, Sequence[str]] = {label: run.usable["action"].tolist() for label, run in runs.items()}
            lines += had.cycle_remarks(actions)
        if lines:
            found[subject] = lines
    return found
