"""Trials, labels, captions and tokens of two source and two target subjects, written by hand for the tests of the controls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.decoding import brain
from boldscribe.decoding.decode import writer
from boldscribe.decoding.task import Task, inputs_of
from boldscribe.machinery.files import save_array

INSTRUCTIONS = ["Describe the video.", "What happens?"]
SOURCE, TARGETS = ("01", "02"), ("03", "04")


def with_targets(config: Config, targets: tuple[str, ...] = TARGETS) -> Config:
    """A configuration with these target subjects."""
    raw = config.model_dump(by_alias=True)
    raw["datasets"]["had"].update(train_subjects=list(SOURCE), validation_subjects=list(targets))
    return Config.model_validate(raw)


def trials_of(subject: str, runs: Mapping[str, str], per_run: int) -> pd.DataFrame:
    """A trial index: `per_run` trials in each run, whose role `runs` says."""
    n = len(runs) * per_run
    return pd.DataFrame(
        {
            "subject": subject,
            "trial": range(n),
            "run": np.repeat(list(runs), per_run),
            "role": np.repeat(list(runs.values()), per_run),
            "first_volume": range(0, 3 * n, 3),
            "n_volumes": 3,
            "instruction": [INSTRUCTIONS[i % 2] for i in range(n)],
        }
    )


def write(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """A table as a file."""
    table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder / f"{name}.parquet"


def write_tokens(folder: Path, role: str, trials: pd.DataFrame, z_NLD: NDArray[np.float32]) -> Path:
    """fMRI tokens as a file, in an order of their own."""
    order = np.random.default_rng(0).permutation(len(trials))
    rows = trials.iloc[order]
    path = folder / f"role-{role}_tokens.npy"
    save_array(path, z_NLD[order], role=role, subjects=rows["subject"].tolist(), trials=rows["trial"].tolist())
    return path


def names(trials: pd.DataFrame) -> list[str]:
    """Subject and trial of each row."""
    return [f"{subject}/{trial}" for subject, trial in trials[["subject", "trial"]].to_numpy()]


def task_for(config: Config, condition: str, trials: list[Path], **files: list[Path]) -> Task:
    """A task that is given those of the files that its condition reads."""
    return Task(config, "had", condition, trials, {n: p for n, p in files.items() if n in inputs_of(condition)})


def donors_of(task: Task, monkeypatch: pytest.MonkeyPatch, known: pd.DataFrame, tokens: NDArray[np.float32]) -> list[str]:
    """Whose tokens each test trial is given, of trials that are known by their tokens."""
    given: list[NDArray[np.float32]] = []
    monkeypatch.setattr(brain, "generate", lambda _, z_NLD: given.append(z_NLD) or [])
    writer(task.condition)(task)
    whose = {z.tobytes(): name for z, name in zip(tokens, names(known), strict=True)}
    return [whose[z.tobytes()] for z in given[0]]
