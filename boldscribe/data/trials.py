"""Trials of a subject: windows and roles in one table, stimuli and actions in another."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.checked import Checked, read_checked
from boldscribe.data.described import describe, described
from boldscribe.data.events import renamed, run_events, stimulus_events, within_run
from boldscribe.data.placement import displacement_path
from boldscribe.data.presentations import REPEATS
from boldscribe.data.reasons import AVERAGED, BROKEN, NO_ONSET, OTHER_SIDE, OUTSIDE, UNANSWERED, UNDESCRIBED
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array
from boldscribe.machinery.reproducible import generator

TRIAL_TYPES = {
    "dataset": "string",
    "subject": "string",
    "run": "string",
    "trial": "int64",
    "onset": "float64",
    "first_volume": "int64",
    "n_volumes": "int64",
    REPEATS: "object",
    "role": "string",
    "instruction": "string",
    "high_motion": "float64",
}
LABEL_TYPES = {
    "subject": "string",
    "trial": "int64",
    "stim_file": "string",
    "action": "string",
    "source": "string",
    "start": "float64",
    "description": "string",
}
EXCLUDED_TYPES = {"subject": "string", "run": "string", "trial": "int64", "role": "string", "reason": "string", "detail": "string"}


def write_trials(
    config: Config, dataset: str, subject: str, *, series: Path, checked: Path, trials: Path, labels: Path, excluded: Path
) -> None:
    """Write `sub-XX_trials.parquet`, `sub-XX_labels.parquet` and `sub-XX_excluded.parquet` (docs/data.md).

    A window is `bold.n_volumes` volumes from the one nearest to onset + `bold.delay`; volume k is at StartTime + k TR. With
    `bold.signal: lss` it is the trial's response, one row of the series. Trials are excluded, with the reason, if their row in the
    events has no valid onset, duration, stimulus or class, their window extends beyond the end of the run, their clip cannot be decoded or
    has no description although descriptions are the captions, they got no response (`missing_responses`), the strict split keeps their
    video source for the other side, or they are averaged with an earlier trial of the same clip (`repeats`). Target subjects' runs that
    serve neither adaptation nor testing are ignored. Trials are numbered before any exclusion, so that a number means the same under any
    setting.

    Args:
        config: the experiment (`bold`, `captioner.kind`, `video_llama.instructions`, `seed`).
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        series: `sub-XX_bold.npy`, with the runs in its header.
        checked: findings of `check_dataset`.
        trials, labels, excluded: outputs.

    Raises:
        UserError: a subject in neither role, runs without events or without series, no trial left.
    """
    design = config.datasets[dataset]
    findings = read_checked(checked)
    _, header = load_array(series)
    displacement, _ = load_array(displacement_path(series))
    events = run_events(design, subject, [run["run"] for run in header["runs"]])
    rows: list[dict[str, Any]] = []
    for run in header["runs"]:
        if run["run"] not in events:
            raise UserError(
                f"{design.bids_dir}/sub-{subject}",
                f"events: found runs {', '.join(events) or 'none'}, expected run {run['run']} too, since it has BOLD; add its events.tsv",
            )
        rows += _run_trials(config, run, design, events[run["run"]], findings, displacement)
    if not rows:
        raise UserError(f"{design.bids_dir}/sub-{subject}", "events: found no trial in any run, expected some; correct the events")
    describe(config, dataset, rows)
    for trial, has_caption in zip(rows, described(config, design, rows), strict=True):
        trial["role"], trial["described"] = role(design, subject, trial["run"]), has_caption
    table = pd.DataFrame(rows)
    table["dataset"], table["subject"], table["trial"] = dataset, subject, np.arange(len(table))
    table["instruction"] = draw_instructions(config, config.whole(dataset), subject, len(table))
    table["role"] = [trial["role"] for trial in rows]
    reasons = [_reason_to_exclude(design, findings, dataset, trial) for trial in rows]
    table["reason"], table["detail"] = [r for r, _ in reasons], [d for _, d in reasons]
    table[REPEATS] = pd.Series([[] for _ in rows], dtype=object)

    table = table[table["role"] != ""]
    if design.repeats == "average":
        table = with_repeats_averaged(table)
    kept, left_out = table[table["reason"] == ""], table[table["reason"] != ""]
    for reason, count in left_out["reason"].value_counts().items():
        logging.getLogger(__name__).warning("sub-%s: %d of %d trials excluded: %s", subject, count, len(table), reason)
    if absent := {"train"} - set(kept["role"]) if subject in design.train_subjects else {"adapt", "test"} - set(kept["role"]):
        raise UserError(
            f"datasets.{config.whole(dataset)}",
            f"sub-{subject}: found no trial for role {' and '.join(sorted(absent))} ({len(left_out)} of {len(table)} are excluded: "
            f"{', '.join(sorted(set(left_out['reason']))) or 'no reason'}); correct adaptation_runs, test_runs, bold.delay, "
            "bold.n_volumes, or the settings that exclude the trials",
        )
    for path, rows_of, types in ((trials, kept, TRIAL_TYPES), (labels, kept, LABEL_TYPES), (excluded, left_out, EXCLUDED_TYPES)):
        with atomic(path) as part:
            rows_of[list(types)].astype(types).reset_index(drop=True).to_parquet(part, index=False)


def with_repeats_averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Make one trial of all presentations of a clip in training, and of all in testing.

    The first presentation stands for all: `repeats` lists the windows of the others, which are excluded, and `high_motion` is the mean.
    Adaptation trials stay apart: which of them show the same clip is a label of target subjects.

    Args:
        table: a subject's trials, with `reason` empty for those that are kept.
    """
    table = table.copy()
    usable = table[(table["reason"] == "") & (table["role"] != "adapt")]
    for _, rows in usable.groupby(["role", "stim_file"]):
        first, others = rows.index[0], rows.index[1:]
        table.at[first, REPEATS] = rows.loc[others, "first_volume"].tolist()
        table.loc[first, "high_motion"] = rows["high_motion"].mean()
        table.loc[others, "reason"], table.loc[others, "detail"] = AVERAGED, f"trial {rows.loc[first, 'trial']}"
    return table


def _reason_to_exclude(design: Dataset, findings: Checked, dataset: str, trial: dict[str, Any]) -> tuple[str, str]:
    """Return the reason to exclude a trial and a detail, both empty if it is kept; adaptation trials' clips and sources are not checked."""
    kept_for_the_other = {"train": findings.kept_for_testing, "test": findings.kept_for_training}.get(trial["role"], {})
    if trial["reason"]:
        return trial["reason"], trial["detail"]
    if trial["first_volume"] < 0:
        return OUTSIDE, f"onset at {trial['onset']:.2f} s"
    if trial["role"] != "adapt" and trial["stim_file"] in findings.broken_clips:
        return BROKEN, findings.broken_clips[trial["stim_file"]]
    if trial["role"] != "adapt" and not trial["described"]:
        return UNDESCRIBED, trial["stim_file"]
    if design.missing_responses == "exclude" and not trial["answered"]:
        return UNANSWERED, ""
    if trial["source"] in kept_for_the_other.get(dataset, []):
        return OTHER_SIDE, trial["source"]
    return "", ""


def _run_trials(
    config: Config, run: dict[str, Any], design: Dataset, path: Path, findings: Checked, displacement: np.ndarray
) -> list[dict[str, Any]]:
    """Return the rows of a run's trials; `first_volume` is -1 if the window leaves the run, or if the run does not have the onset."""
    settings = config.bold
    rows: list[dict[str, Any]] = []
    responses = 0  # rows of the run in a series of trial responses: those of all events with an onset
    trials = renamed(stimulus_events(design, path, findings.lead_in), findings.renamed_clips)
    for event in within_run(trials, run["duration"]).to_dict("records"):
        timed = event["reason"] != NO_ONSET
        first = -1
        if timed and settings.signal == "lss":
            first, responses = responses, responses + 1
        elif timed:
            first = first_volume(event["onset"] + settings.delay, run["start_time"], run["repetition_time"])
        inside = first >= 0 and first + settings.n_volumes <= run["n_volumes"]
        row = run["first_volume"] + first
        moved = displacement[row : row + settings.n_volumes] > settings.framewise_displacement
        rows.append(
            {
                "run": run["run"],
                "first_volume": row if inside else -1,
                "n_volumes": settings.n_volumes,
                "high_motion": float(moved.mean()) if inside else 0.0,
                **{
                    str(name): event[name]
                    for name in ("onset", "stim_file", "action", "source", "start", "description", "answered", "reason", "detail")
                },
            }
        )
    return rows


def first_volume(time: float, start_time: float, repetition_time: float) -> int:
    """Return the index of the volume nearest to a time in its run; volume k is at StartTime + k TR (all s)."""
    return math.floor((time - start_time) / repetition_time + 0.5)


def role(dataset: Dataset, subject: str, run: str) -> str:
    """Return the role of a run: `train` for source subjects; `adapt`, `test` or "" (neither) for target subjects.

    Raises:
        UserError: the subject is in neither list, or the run in both.
    """
    if subject in dataset.train_subjects:
        return "train"
    if subject not in dataset.validation_subjects:
        raise UserError(
            f"sub-{subject}", "found in neither train_subjects nor validation_subjects; add it to one of them in the configuration"
        )
    adapted, tested = (dataset.choice.names(runs, run) for runs in (dataset.adaptation_runs, dataset.test_runs))
    if adapted and tested:
        raise UserError(
            f"sub-{subject}", f"run {run}: found in adaptation_runs and in test_runs: test trials must be unseen; remove from one"
        )
    return "adapt" if adapted else "test" if tested else ""


def draw_instructions(config: Config, dataset: str, subject: str, n_trials: int) -> list[str]:
    """Draw one instruction per trial at random (paper 3.2), the same in all folds of a data set."""
    choices = config.video_llama.instructions
    rng = generator(config.seed, "instruction", dataset, subject)
    return [choices[i] for i in rng.integers(len(choices), size=n_trials)]
