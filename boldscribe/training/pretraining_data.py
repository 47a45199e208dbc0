"""Pretraining data of SC-MBM: windows from entire runs of source subjects, and of people who appear in no table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.data.windows import Windows
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array


def pretraining_windows(config: Config, dataset: str, series: Sequence[Path], further: Sequence[Path]) -> Windows:
    """Cut every run into adjacent windows of T volumes: pretraining needs no trials.

    Args:
        series: of the source subjects.
        further: of the subjects of `config.pretraining`.

    Raises:
        UserError: the subject of a series is in neither list, or its grid differs from the first one's.
    """
    names, tables = [], []
    whole = config.whole(dataset)  # a fold's series carry its name
    named = {(whole, subject) for subject in config.datasets[dataset].train_subjects}
    named |= {(name, subject) for name, extra in config.pretraining.items() for subject in extra.subjects}
    for path in [*series, *further]:
        _, header = load_array(path)
        key = (header.get("dataset", whole), header["subject"])
        if key not in named:
            raise UserError(str(path), f"subject: found {key[0]} sub-{key[1]}, expected one configured for pretraining")
        names.append("/".join(key))
        tables += [run_windows(names[-1], run, config.bold.n_volumes) for run in header["runs"]]
    table = pd.concat(tables, ignore_index=True)
    table["subject"] = table["subject"].astype("category")  # stores a number, not a string, for each of a million windows
    return Windows([*series, *further], table, config.tokenizer.grid, names)


def further_series(config: Config) -> list[Path]:
    """Series of all subjects of `config.pretraining`, as written by the rule `pretraining_series`."""
    folder = Path(config.paths.results) / "pretraining"
    return [folder / name / f"sub-{subject}_bold.npy" for name, extra in config.pretraining.items() for subject in extra.subjects]


def run_windows(name: str, run: dict[str, Any], n_volumes: int) -> pd.DataFrame:
    """Windows of a run: `subject, first_volume, n_volumes`.

    Args:
        run: its entry in the header of the series.
        n_volumes: T.
    """
    first = np.arange(run["first_volume"], run["first_volume"] + run["n_volumes"] - n_volumes + 1, n_volumes)
    return pd.DataFrame({"subject": name, "first_volume": first, "n_volumes": n_volumes})
