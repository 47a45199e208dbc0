"""Trials without a description, where descriptions are the captions (`captioner.kind: given`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.event_checks import Events
from boldscribe.descriptions import descriptions_of


def described(config: Config, design: Dataset, trials: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return whether each trial has a caption: true unless captions are given and there is none for its clip.

    Args:
        config: the experiment (`captioner.kind`).
        design: section of the data set.
        trials: rows of `stimulus_events`.
    """
    if config.captioner.kind != "given":
        return [True] * len(trials)
    if design.description_file is None:
        return [bool(trial["description"]) for trial in trials]
    found = descriptions_of(
        {trial["stim_file"] for trial in trials}, design.description_file, design.stimulus_manifest, by_bare_name=design.numbers_clips
    )
    return [bool(found[trial["stim_file"]]) for trial in trials]


def description_problems(config: Config, design: Dataset, events: Events) -> list[str]:
    """Find a data set none of whose trials has a description: the file names its clips in another way. A few are excluded instead."""
    trials: list[Any] = [trial for runs in events.values() for run in runs.values() for trial in run.usable.to_dict("records")]
    if not trials or any(described(config, design, trials)):
        return []
    where = design.description_file or f"column {design.description_column} of the events"
    example = trials[0]["stim_file"]
    return [
        f"{where}: found no description of any of {len({trial['stim_file'] for trial in trials})} clips, such as {example}, expected each "
        "clip by its stim_file, or by its stimulus in the stimulus manifest; rename them there"
    ]
