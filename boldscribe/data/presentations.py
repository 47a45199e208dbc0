"""Windows of trials in a series: one presentation of a clip each, or several, whose mean is the trial's window (`datasets.*.repeats`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REPEATS = "repeats"  # column of trials: list of the first volumes of further presentations

Rows = NDArray[np.int64]


def first_volumes(trials: pd.DataFrame) -> list[Rows]:
    """Return the first volumes of all presentations of each trial."""
    further = trials[REPEATS] if REPEATS in trials else [()] * len(trials)
    return [np.array([first, *others], np.int64) for first, others in zip(trials["first_volume"], further, strict=True)]


def presentation_counts(trials: pd.DataFrame) -> NDArray[np.float32]:
    """Return the number of presentations of each trial."""
    return np.array([len(volumes) for volumes in first_volumes(trials)], np.float32)


def presentations(trials: pd.DataFrame) -> Iterator[tuple[Rows, Rows]]:
    """Yield the first, second, ... presentations: the rows of the trials that have one, and its first volumes."""
    of_trials = first_volumes(trials)
    for k in range(max(map(len, of_trials), default=0)):
        rows = np.array([i for i, volumes in enumerate(of_trials) if len(volumes) > k], np.int64)
        yield rows, np.array([of_trials[i][k] for i in rows], np.int64)


def mean_windows(bold_TV: NDArray[Any], trials: pd.DataFrame, columns: slice = slice(None)) -> NDArray[np.float32]:
    """Return the window of each trial, the mean over its presentations, float32 (N, T, V).

    Args:
        bold_TV: series of the trials' subject.
        trials: rows of `sub-XX_trials.parquet`, at least one.
        columns: of the series.
    """
    n_volumes = int(trials["n_volumes"].iloc[0])
    (_, first), *others = presentations(trials)
    windows_NTV = bold_TV[first[:, None] + np.arange(n_volumes), columns].astype(np.float32)
    for rows, first in others:
        windows_NTV[rows] += bold_TV[first[:, None] + np.arange(n_volumes), columns]
    return windows_NTV / presentation_counts(trials)[:, None, None] if others else windows_NTV
