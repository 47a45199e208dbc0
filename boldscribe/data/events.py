"""Stimulus events: what was shown when, in seconds from a run's first volume, independent of the data set's conventions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from boldscribe.config.data_settings import Dataset
from boldscribe.data import bold_moments, had
from boldscribe.data.layout import find_events
from boldscribe.data.reasons import NO_CLASS, NO_DURATION, NO_ONSET, NO_STIMULUS
from boldscribe.data.stimulus_files import clean_path
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.table_files import check_columns, read_table

TIMES = ("onset", "duration")
ANSWERS = ("response", "response_time")
MANIFEST_COLUMNS = ("stimulus", "stim_file", "action", "source")
WORDS = "clip_description"  # not `description`: the stimulus column may have that name
TYPE = "trial_type"
START = "start"  # optional column of the manifest


def run_events(design: Dataset, subject: str, runs: Iterable[str]) -> dict[str, Path]:
    """Find the events of a subject's runs (`find_events`)."""
    return find_events(design.bids_dir, subject, design.choice, runs)


def read_events(path: Path, stimulus: str = "stim_file", description: str | None = None, notes: list[str] | None = None) -> pd.DataFrame:
    """Read the stimulus events of a run as stored, sorted by onset.

    A row that cannot be used is kept and marked, so that its trial is left out with a reason.

    Args:
        path: `_events.tsv`.
        stimulus: column that names the stimulus. A row without one (fixation, blanks) is no trial, unless it has a duration and a class
            that other rows show.
        description: column that describes the stimulus in words, if any.
        notes: list to which remarks on the file are appended.

    Returns:
        `onset` and `duration` (s; NaN if missing or invalid), `trial_type` if the file has it, the stimulus column (None if missing),
        `clip_description` (empty if missing), `answered` (false if a response column has no value), and `reason` and `detail` why the
        row cannot be used (empty if it can).

    Raises:
        UserError: see `read_table`; a missing column.
    """
    table = read_table(path, notes)
    check_columns(path, table, [c for c in (*TIMES, stimulus, description) if c], "add them (BIDS task events)")
    table[WORDS] = table[description].fillna("") if description else ""
    table["answered"] = table[[c for c in ANSWERS if c in table]].notna().all(axis=1)
    seconds = {column: pd.to_numeric(table[column], errors="coerce").astype(float) for column in TIMES}
    seconds = {column: values.where(np.isfinite(values)) for column, values in seconds.items()}
    classes = table[TYPE] if TYPE in table and stimulus != TYPE else pd.Series(None, table.index, dtype=object)
    shown = table[stimulus].notna()
    shown |= classes.isin(set(classes[shown].dropna())) & (seconds["duration"] > 0)
    timed = bool((seconds["duration"][shown] > 0).any())  # otherwise all are 0, which BIDS reads as brief

    table["reason"] = table["detail"] = ""
    odd_duration = seconds["duration"].isna() & table["duration"].notna() | (seconds["duration"] < 0) | (seconds["duration"] == 0) & timed
    _mark(table, seconds["onset"].isna(), NO_ONSET, "onset")
    _mark(table, odd_duration, NO_DURATION, "duration")
    _mark(table, table[stimulus].isna(), NO_STIMULUS, stimulus)
    table["onset"], table["duration"] = seconds["onset"], seconds["duration"].mask(odd_duration)
    kept = [*TIMES, *(c for c in (TYPE,) if c in table and c != stimulus), stimulus, WORDS, "answered", "reason", "detail"]
    return table.loc[shown, kept].sort_values("onset", kind="stable").reset_index(drop=True)


def _mark(table: pd.DataFrame, rows: pd.Series, reason: str, column: str) -> None:
    """Enter a reason, with line and value of a column, for rows that have none yet."""
    for line in table.index[rows & (table["reason"] == "")]:
        table.loc[line, ["reason", "detail"]] = reason, f"line {line}: {column}: found {table.loc[line, column] or 'n/a'}"


def stimulus_events(design: Dataset, path: Path, lead_in: float) -> pd.DataFrame:
    """Read the trials of a run, sorted by onset.

    Args:
        design: section of the data set, whose adapter or stimulus manifest defines the stimuli.
        path: `_events.tsv`.
        lead_in: time from the first volume to the zero point of the onsets (s): `lead_in_of`.

    Returns:
        `onset` (s from the first volume) and `duration` (s), `stim_file` (relative to the folder of the videos), `action`, `source`
        (of the video; shared by all clips cut from one recording), `start` (of the clip in its source, s; NaN if unknown),
        `description` (empty if the data set has none), `answered`, and `reason` and `detail` why the trial cannot be used (empty if it
        can; otherwise onset and duration may be NaN, and texts empty).

    Raises:
        UserError: see `read_events`; a stimulus that is missing from the manifest.
    """
    return described(read_events(path, design.stimulus_column, design.description_column), design, path, lead_in)


def described(events: pd.DataFrame, design: Dataset, path: Path, lead_in: float) -> pd.DataFrame:
    """Convert events that `read_events` has read from `path` to the trials of `stimulus_events`."""
    events = events.assign(onset=events["onset"] + lead_in)
    events = (_by_events if design.stimulus_manifest is None else _by_manifest)(events, design, path)
    columns = [*TIMES, "stim_file", "action", "source", START, WORDS, "answered", "reason", "detail"]
    return events[columns].rename(columns={WORDS: "description"})


def renamed(events: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Write each stimulus of `stimulus_events` as its file is spelled; a clip that is its own source stays so.

    Args:
        events: trials.
        names: from `other_spellings`.
    """
    return events.assign(**{column: events[column].replace(dict(names)) for column in ("stim_file", "source")}) if names else events


def within_run(events: pd.DataFrame, duration: float) -> pd.DataFrame:
    """Mark the trials of `stimulus_events` whose onset is outside a run of this duration (s), whatever else is wrong with them."""
    outside = (events["onset"] < 0) | (events["onset"] >= duration)
    details = events["onset"].map(lambda onset: f"onset: found {onset:g} s, expected 0 to {duration:g} s")
    return events.assign(reason=events["reason"].mask(outside, NO_ONSET), detail=events["detail"].mask(outside, details))


def with_onset(events: pd.DataFrame) -> pd.DataFrame:
    """Return the events of `within_run` that took place in the run, usable as trials or not."""
    return events[events["reason"] != NO_ONSET]


def _by_events(events: pd.DataFrame, design: Dataset, path: Path) -> pd.DataFrame:
    """Add `stim_file`, `action`, `source` and `start` as the adapter finds them: in the events, in names of clips, or in annotations."""
    if design.adapter == "bids" and TYPE not in events:
        raise UserError(
            str(path), f"columns: found no {TYPE}, expected the action that each clip shows; add it, or name a stimulus_manifest"
        )
    names = events[design.stimulus_column]
    if design.adapter == "had":
        stimuli = [_of_had(name, path) for name in names]
    elif design.adapter == "bold_moments":
        stimuli = [_of_bids(name, None if name is None else bold_moments.action_of(name, design.bids_dir)) for name in names]
    else:
        stimuli = [_of_bids(name, action) for name, action in zip(names, events[TYPE], strict=True)]
    found = pd.DataFrame(stimuli, events.index, _Stimulus._fields)
    usable = events["reason"] == ""
    return events[[*TIMES, WORDS, "answered"]].assign(
        **{name: found[name] for name in ("stim_file", "action", "source", START)},
        **{name: events[name].where(~usable, found[name]) for name in ("reason", "detail")},
    )


class _Stimulus(NamedTuple):
    stim_file: str = ""
    action: str = ""
    source: str = ""
    start: float = math.nan
    reason: str = ""
    detail: str = ""


def _of_bids(name: str | None, action: str | None) -> _Stimulus:
    if name is None or (file := clean_path(name)) is None:
        return _Stimulus(reason=NO_STIMULUS, detail=f"found {name}, expected a file in the folder of the videos")
    if action is None:
        return _Stimulus(file, source=file, reason=NO_CLASS, detail=f"class of {file}: found none")
    return _Stimulus(file, action, file)


def _of_had(name: str | None, path: Path) -> _Stimulus:
    file = clean_path(name) if name is not None else None
    try:
        clip = had.parse_clip(file or str(name), path)
    except UserError as error:
        return _Stimulus(reason=NO_STIMULUS, detail=error.problems[0])
    if file is None:
        return _Stimulus(reason=NO_STIMULUS, detail=f"found {name}, expected a file in the folder of the videos")
    return _Stimulus(file, clip.action, clip.source, clip.start)


def lead_in_of(design: Dataset, first_onsets: Mapping[str, float]) -> float:
    """Return the time from the first volume to the zero point of the onsets (s): as configured, or by `had.detect_lead_in`.

    Args:
        design: section of the data set.
        first_onsets: first onset of each run (s), by events file.

    Raises:
        UserError: detection is configured and fails.
    """
    return had.detect_lead_in(first_onsets) if design.lead_in == "detect" else float(design.lead_in)


def _by_manifest(events: pd.DataFrame, design: Dataset, path: Path) -> pd.DataFrame:
    """Add `stim_file`, `action`, `source` and `start` by the stimulus manifest; drop events that show no video."""
    assert design.stimulus_manifest is not None
    manifest = read_stimulus_manifest(Path(design.stimulus_manifest))
    names = events[design.stimulus_column]
    if unknown := sorted(set(names.dropna()) - set(manifest.index)):
        raise UserError(
            str(path),
            f"{design.stimulus_column}: found {', '.join(unknown[:5])}, expected values from the column `stimulus` of "
            f"{design.stimulus_manifest}; add a row for each (with stim_file n/a for events without a video)",
        )
    columns = [*TIMES, WORDS, "answered", "reason", "detail"]
    merged = pd.concat([events[columns], manifest.reindex(names.tolist()).reset_index(drop=True)], axis=1)
    merged = merged[names.isna() | merged["stim_file"].notna()].reset_index(drop=True)
    return merged.fillna({"stim_file": "", "action": "", "source": ""})


@lru_cache(maxsize=8)
def read_stimulus_manifest(path: Path) -> pd.DataFrame:
    """Read the table with video, action and source of each stimulus (docs/real-data.md), indexed by `stimulus`.

    A source of n/a means that no other clip was cut from the same recording: the clip is its own source. `start` (s) is NaN if the
    table does not have it.

    Args:
        path: TSV, or CSV if its name ends in `.csv`.

    Raises:
        UserError: see `read_table`; a missing column, a stimulus without name or twice, a video outside its folder or without action, a
            start that is not a number.
    """
    table = read_table(path)
    check_columns(path, table, list(MANIFEST_COLUMNS), "add them")
    if nameless := table.index[table["stimulus"].isna()].tolist():
        raise UserError(
            str(path), f"line {nameless[0]}: stimulus: found none, expected the value in the events; fill it in, or remove the line"
        )
    if repeated := sorted(set(table.loc[table["stimulus"].duplicated(), "stimulus"])):
        raise UserError(
            str(path), f"stimulus: found {', '.join(repeated[:5])} more than once, expected one row each; remove the duplicates"
        )
    files = [None if name is None else clean_path(name) for name in table["stim_file"]]
    if outside := [name for name, file in zip(table["stim_file"], files, strict=True) if name is not None and file is None]:
        raise UserError(
            str(path),
            f"stim_file: found {', '.join(outside[:5])}, expected files in the folder of the videos; correct them",
        )
    table["stim_file"] = pd.Series(files, table.index, dtype=object)
    if nameless := table.loc[table["stim_file"].notna() & table["action"].isna(), "stimulus"].tolist():
        raise UserError(
            str(path), f"action: found none for {', '.join(nameless[:5])}, expected the action that the video shows; fill it in"
        )
    table["source"] = table["source"].where(table["source"].notna(), table["stim_file"])
    starts = table[START] if START in table else pd.Series(None, table.index, dtype=object)
    table[START] = pd.to_numeric(starts, errors="coerce").astype(float)
    if wrong := table.loc[table[START].isna() & starts.notna(), "stimulus"].tolist():
        raise UserError(str(path), f"{START}: found no number for {', '.join(wrong[:5])}, expected seconds or n/a; correct it")
    return table.set_index("stimulus")[[*MANIFEST_COLUMNS[1:], START]]
