"""Descriptions of trials by people, and trials without one where descriptions are the captions (`captioner.kind: given`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.event_checks import Events
from boldscribe.descriptions import DESCRIPTIONS, descriptions_of
from boldscribe.drawn_descriptions import drawn_descriptions


def described(config: Config, design: Dataset, trials: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return whether each trial has a caption: true unless captions are given and there is none for its clip.

    Args:
        config: the experiment (`captioner.kind`).
        design: section of the data set.
        trials: rows of `stimulus_events`.
    """
    return _has_description(design, trials) if config.captioner.kind == "given" else [True] * len(trials)


def _has_description(design: Dataset, trials: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return whether each trial has a description, in the file if there is one, else in the events."""
    if design.description_file is None:
        return [bool(trial["description"]) for trial in trials]
    found = descriptions_of(
        {trial["stim_file"] for trial in trials}, design.description_file, design.stimulus_manifest, by_bare_name=design.numbers_clips
    )
    return [bool(found[trial["stim_file"]]) for trial in trials]


def describe(config: Config, dataset: str, trials: Sequence[dict[str, Any]]) -> None:
    """Give each trial the description of its clip that the condition `human` says, where a file has them and the events have none.

    Args:
        config: the experiment (`captioner.kind`, `seed`).
        dataset: name in `config.datasets`.
        trials: rows of `stimulus_events`, whose `description` is set: empty if there is none for the clip.
    """
    if DESCRIPTIONS not in config.references(dataset) or config.datasets[dataset].description_column is not None:
        return
    drawn = drawn_descriptions(config, dataset, {trial["stim_file"] for trial in trials})
    for trial in trials:
        trial["description"] = next(iter(drawn[trial["stim_file"]]), "")


def description_problems(config: Config, design: Dataset, events: Events) -> list[str]:
    """Find subjects none of whose trials has a description: the file names clips in another way. A few trials are left out instead."""
    if config.captioner.kind != "given" and design.description_file is None:
        return []
    trials: dict[str, list[Any]] = {
        subject: [trial for run in runs.values() for trial in run.usable.to_dict("records")] for subject, runs in events.items()
    }
    lacking = [subject for subject, own in trials.items() if own and not any(_has_description(design, own))]
    if not lacking:
        return []
    where = design.description_file or f"column {design.description_column} of the events"
    clips = list(dict.fromkeys(trial["stim_file"] for subject in lacking for trial in trials[subject]))
    return [
        f"{where}: found no description of any of {len(clips)} clips of sub-{', sub-'.join(lacking)}, such as {clips[0]}, expected each "
        "clip by its stim_file, or by its stimulus in the stimulus manifest; rename them there"
    ]
