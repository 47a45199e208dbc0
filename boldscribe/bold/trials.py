"""Trials of a subject: windows and roles in one table, stimuli and actions in another."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.bids import find_runs, read_events
from boldscribe.bold.windows import displacement_path
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic, load_array
from boldscribe.reproducible import generator
from boldscribe.sections.data import Dataset

TRIAL_TYPES = {
    "dataset": "string",
    "subject": "string",
    "run": "string",
    "trial": "int64",
    "onset": "float64",
    "first_volume": "int64",
    "n_volumes": "int64",
    "role": "string",
    "instruction": "string",
    "high_motion": "float64",
}
LABEL_TYPES = {"subject": "string", "trial": "int64", "stim_file": "string", "action": "string"}


def write_trials(config: Config, dataset: str, subject: str, series: Path, trials: Path, labels: Path) -> None:
    """Write `sub-XX_trials.parquet` and `sub-XX_labels.parquet` (docs/data.md).

    A window is `bold.n_volumes` volumes from the one nearest to onset + `bold.delay`; volume k is at StartTime + k TR. Trials whose
    window leaves their run, at its end, have no window and are left out of both tables; so are runs of target subjects that are
    neither for adaptation nor for testing. Trials are numbered before that, so that a number means the same under any setting.

    Args:
        config: the experiment (`bold`, `video_llama.instructions`, `seed`).
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        series: `sub-XX_bold.npy`, whose header names the runs.
        trials, labels: outputs.

    Raises:
        UserError: a subject in neither role, runs without events or without series, onsets beyond the run, no trial left.
    """
    design = config.datasets[dataset]
    _, header = load_array(series)
    displacement, _ = load_array(displacement_path(series))
    events = find_runs(design.bids_dir, subject, design.session, design.task, "events", [".tsv"])
    rows: list[dict[str, Any]] = []
    for run in header["runs"]:
        if run["run"] not in events:
            raise UserError(
                f"{design.bids_dir}/sub-{subject}",
                f"events: found runs {', '.join(events) or 'none'}, expected run {run['run']} too, since it has BOLD; add its events.tsv",
            )
        rows += _run_trials(config, run, events[run["run"]], displacement)
    table = pd.DataFrame(rows)
    table["dataset"], table["subject"], table["trial"] = dataset, subject, np.arange(len(table))
    table["instruction"] = draw_instructions(config, dataset, subject, len(table))
    table["role"] = [role(design, subject, run) for run in table["run"]]

    outside = table["first_volume"] < 0
    if outside.any():
        logging.getLogger(__name__).warning("sub-%s: %d trial(s) left out, whose window leaves the run at its end", subject, outside.sum())
    kept = table[~outside & (table["role"] != "")]
    if absent := {"train"} - set(kept["role"]) if subject in design.train_subjects else {"adapt", "test"} - set(kept["role"]):
        raise UserError(
            f"datasets.{dataset}",
            f"sub-{subject}: found no trial for role {' and '.join(sorted(absent))} ({outside.sum()} of {len(table)} windows leave their "
            "run at its end); correct adaptation_runs, test_runs, bold.delay or bold.n_volumes",
        )
    for path, types in ((trials, TRIAL_TYPES), (labels, LABEL_TYPES)):
        with atomic(path) as part:
            kept[list(types)].astype(types).reset_index(drop=True).to_parquet(part, index=False)


def _run_trials(config: Config, run: dict[str, Any], path: Path, displacement: np.ndarray) -> list[dict[str, Any]]:
    """Rows of a run; `first_volume` is -1 where the window leaves the run."""
    length = run["n_volumes"] * run["repetition_time"]
    rows = []
    for event in read_events(path).itertuples():
        onset = float(event.onset)  # type: ignore[arg-type]
        if not 0 <= onset < length:
            raise UserError(
                str(path), f"onset: found {onset:g} s, expected 0 to {length:g} s, the length of its run; correct the events, or the TR"
            )
        first = math.floor((onset + config.bold.delay - run["start_time"]) / run["repetition_time"] + 0.5)
        inside = first >= 0 and first + config.bold.n_volumes <= run["n_volumes"]
        row = run["first_volume"] + first
        moved = displacement[row : row + config.bold.n_volumes] > config.bold.framewise_displacement
        rows.append(
            {
                "run": run["run"],
                "onset": onset,
                "first_volume": row if inside else -1,
                "n_volumes": config.bold.n_volumes,
                "high_motion": float(moved.mean()) if inside else 0.0,
                "stim_file": event.stim_file,
                "action": event.trial_type,
            }
        )
    return rows


def role(dataset: Dataset, subject: str, run: str) -> str:
    """What a run serves: `train` for all runs of source subjects; `adapt` or `test` for those of target subjects, or "" for neither.

    Raises:
        UserError: a subject in neither list.
    """
    if subject in dataset.train_subjects:
        return "train"
    if subject not in dataset.validation_subjects:
        raise UserError(
            f"sub-{subject}", "found in neither train_subjects nor validation_subjects; add it to one of them in the configuration"
        )
    if run in dataset.adaptation_runs:
        return "adapt"
    return "test" if run in dataset.test_runs else ""


def draw_instructions(config: Config, dataset: str, subject: str, n_trials: int) -> list[str]:
    """One instruction per trial, drawn at random (paper 3.2)."""
    choices = config.video_llama.instructions
    rng = generator(config.seed, "instruction", dataset, subject)
    return [choices[i] for i in rng.integers(len(choices), size=n_trials)]
