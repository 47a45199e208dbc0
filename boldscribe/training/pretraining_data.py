"""What SC-MBM is pretrained on: windows from all over the runs of source subjects, and of people who are in no table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.bold.windows import Windows
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import load_array


def pretraining_windows(config: Config, dataset: str, series: Sequence[Path], further: Sequence[Path]) -> Windows:
    """Windows of T volumes side by side through every run: pretraining needs no trials.

    Args:
        series: of the source subjects.
        further: of the subjects of `config.pretraining`. Where a time step is set for them, a window's volume is the mean of those
            sampled in it, and the window that much longer.

    Raises:
        UserError: a series of somebody who is named in neither list, or on another grid than the first.
    """
    names, tables = [], []
    steps: dict[tuple[str, str], float | None] = {(dataset, s): None for s in config.datasets[dataset].train_subjects}
    steps |= {(name, subject): extra.seconds_per_volume for name, extra in config.pretraining.items() for subject in extra.subjects}
    for path in [*series, *further]:
        _, header = load_array(path)
        key = (header.get("dataset", dataset), header["subject"])
        if key not in steps:
            raise UserError(str(path), f"subject: found {key[0]} sub-{key[1]}, expected one that the configuration names for pretraining")
        names.append("/".join(key))
        tables += [run_windows(names[-1], run, config.bold.n_volumes, steps[key]) for run in header["runs"]]
    table = pd.concat(tables, ignore_index=True)
    table["subject"] = table["subject"].astype("category")  # a number for each of a million windows, not a string
    return Windows([*series, *further], table, config.tokenizer.grid, names)


def run_windows(name: str, run: dict[str, Any], n_volumes: int, seconds_per_volume: float | None) -> pd.DataFrame:
    """The windows of a run: `subject, first_volume, n_volumes, step`.

    Args:
        run: its entry in the header of the series.
        n_volumes: T.
        seconds_per_volume: time step of a window (s); None, or one not longer than the TR, takes the volumes as sampled.
    """
    step = max(1.0, (seconds_per_volume or 0) / run["repetition_time"])
    length = math.ceil(n_volumes * step)
    first = np.arange(run["first_volume"], run["first_volume"] + run["n_volumes"] - length + 1, length)
    return pd.DataFrame({"subject": name, "first_volume": first, "n_volumes": n_volumes, "step": step})
