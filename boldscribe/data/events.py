"""Stimulus events: what was shown when, in seconds from a run's first volume, independent of the data set's conventions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from boldscribe.config.data_settings import Dataset
from boldscribe.data import had
from boldscribe.machinery.errors import UserError

TIMES = ("onset", "duration")
ANSWERS = ("response", "response_time")
MANIFEST_COLUMNS = ("stimulus", "stim_file", "action", "source")
WORDS = "clip_description"  # not `description`: the stimulus column may have that name
START = "start"  # optional column of the manifest
NOTHING = {"", "n/a"}


def read_events(path: Path, stimulus: str = "stim_file", description: str | None = None) -> pd.DataFrame:
    """Read the stimulus events of a run as stored, sorted by onset.

    Args:
        path: `_events.tsv`.
        stimulus: column that names the stimulus; rows without one (empty or n/a: fixation, blanks) are not trials.
        description: column that describes the stimulus in words, if any.

    Returns:
        `onset` and `duration` (s; NaN for n/a), `trial_type` if the file has it, the stimulus column, `clip_description` (empty
        if the file has none), and `answered` (false if a response column is empty or n/a).

    Raises:
        UserError: missing file or column, times that are not numbers, no stimulus at all.
    """
    if not path.is_file():
        raise UserError(str(path), "the events file does not exist; every run needs one")
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(str(path), f"not a tab-separated table: {error}; repair it") from None
    if absent := [c for c in (*TIMES, stimulus, description) if c and c not in table]:
        raise UserError(
            str(path), f"columns: found {', '.join(table.columns)}; expected also {', '.join(absent)}; add them (BIDS task events)"
        )
    texts = table[description].str.strip() if description else pd.Series("", index=table.index)
    table[WORDS] = texts.where(~texts.isin(NOTHING), "")
    events = table[~table[stimulus].str.strip().isin(NOTHING)].copy()
    if events.empty:
        raise UserError(str(path), f"{stimulus}: found no row with a stimulus, expected one per trial; fill in what was shown")
    for column in TIMES:
        seconds = pd.to_numeric(events[column], errors="coerce")
        wrong = seconds.isna() & ((column == "onset") | (events[column] != "n/a"))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(str(path), f"{column}: found {events[column].iloc[row]!r}, expected a number of seconds; correct it")
        events[column] = seconds.astype(float)
    events["answered"] = [not any(row.get(column) in NOTHING for column in ANSWERS) for row in events.to_dict("records")]
    kept = [*TIMES, *(c for c in ("trial_type",) if c in events and c != stimulus), stimulus, WORDS, "answered"]
    return events[kept].sort_values("onset", kind="stable").reset_index(drop=True)


def stimulus_events(design: Dataset, path: Path, lead_in: float) -> pd.DataFrame:
    """Read the trials of a run, sorted by onset.

    Args:
        design: section of the data set, whose adapter or stimulus manifest defines the stimuli.
        path: `_events.tsv`.
        lead_in: time from the first volume to the zero point of the onsets (s): `lead_in_of`.

    Returns:
        `onset` (s from the first volume) and `duration` (s), `stim_file` (relative to the folder of the videos), `action`, `source`
        (of the video; shared by all clips cut from one recording), `start` (of the clip in its source, s; NaN if unknown),
        `description` (empty if the data set has none) and `answered`.

    Raises:
        UserError: see `read_events`; a stimulus that is missing from the manifest, or a clip name that does not follow HAD's pattern.
    """
    return described(read_events(path, design.stimulus_column, design.description_column), design, path, lead_in)


def described(events: pd.DataFrame, design: Dataset, path: Path, lead_in: float) -> pd.DataFrame:
    """Convert events that `read_events` has read from `path` to the trials of `stimulus_events`."""
    events = events.assign(onset=events["onset"] + lead_in)
    if design.stimulus_manifest is not None:
        events = _by_manifest(events, design, path)
    else:
        events = events.rename(columns={design.stimulus_column: "stim_file"})
        if design.adapter == "had":
            clips = [had.parse_clip(name, path) for name in events["stim_file"]]
            events["action"], events["source"] = [clip.action for clip in clips], [clip.source for clip in clips]
            events[START] = [clip.start for clip in clips]
        elif "trial_type" not in events:
            raise UserError(
                str(path), "columns: found no trial_type, expected the action that each clip shows; add it, or name a stimulus_manifest"
            )
        else:
            events["action"], events["source"], events[START] = events["trial_type"], events["stim_file"], math.nan
    return events[[*TIMES, "stim_file", "action", "source", START, WORDS, "answered"]].rename(columns={WORDS: "description"})


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
    assert design.stimulus_manifest is not None
    manifest = read_stimulus_manifest(Path(design.stimulus_manifest))
    names = events[design.stimulus_column].str.strip()
    if unknown := sorted(set(names) - set(manifest.index)):
        raise UserError(
            str(path),
            f"{design.stimulus_column}: found {', '.join(unknown[:5])}, expected values from the column `stimulus` of "
            f"{design.stimulus_manifest}; add a row for each (with stim_file n/a for events without a video)",
        )
    described = manifest.loc[names.tolist()].reset_index(drop=True)
    merged = pd.concat([events[[*TIMES, WORDS, "answered"]], described], axis=1)
    return merged[~merged["stim_file"].isin(NOTHING)].reset_index(drop=True)


@lru_cache(maxsize=8)
def read_stimulus_manifest(path: Path) -> pd.DataFrame:
    """Read the table with video, action and source of each stimulus (docs/real-data.md), indexed by `stimulus`.

    A source of n/a means that no other clip was cut from the same recording: the clip is its own source. `start` (s) is NaN if the
    table does not have it.

    Raises:
        UserError: missing file or column, a duplicate stimulus, a video without action, a start that is not a number.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(
            str(path), f"stimulus_manifest: cannot be read as a tab-separated table ({error}); correct the path or the file"
        ) from None
    if absent := [c for c in MANIFEST_COLUMNS if c not in table]:
        raise UserError(str(path), f"columns: found {', '.join(table.columns)}; expected also {', '.join(absent)}; add them")
    if repeated := sorted(set(table.loc[table["stimulus"].duplicated(), "stimulus"])):
        raise UserError(
            str(path), f"stimulus: found {', '.join(repeated[:5])} more than once, expected one row each; remove the duplicates"
        )
    shown = ~table["stim_file"].isin(NOTHING)
    if nameless := table.loc[shown & table["action"].isin(NOTHING), "stimulus"].tolist():
        raise UserError(
            str(path), f"action: found none for {', '.join(nameless[:5])}, expected the action that the video shows; fill it in"
        )
    table["source"] = table["source"].where(~table["source"].isin(NOTHING), table["stim_file"])
    starts = table[START] if START in table else pd.Series("n/a", index=table.index)
    table[START] = pd.to_numeric(starts, errors="coerce")
    if wrong := table.loc[table[START].isna() & ~starts.isin(NOTHING), "stimulus"].tolist():
        raise UserError(str(path), f"{START}: found no number for {', '.join(wrong[:5])}, expected seconds or n/a; correct it")
    return table.set_index("stimulus")[[*MANIFEST_COLUMNS[1:], START]]
