"""Runs of different sampling rates in one time step: pretraining data may be sampled faster than the experiment's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6  # of a volume: 1.44 s are two volumes of 0.72 s, whatever the last digit says


def time_steps(n_volumes: int, repetition_time: float, seconds: float | None) -> list[slice]:
    """The sampled volumes that fall into each whole time step of a run; one each where the run is not sampled faster.

    Args:
        n_volumes: of the run; volume i is taken at i · `repetition_time`.
        repetition_time: s.
        seconds: length of a time step; step k is from k · `seconds` up to, not with, (k + 1) · `seconds`. None: as sampled.
    """
    per_step = max(1.0, (seconds or 0.0) / repetition_time)
    n_steps = math.floor(n_volumes / per_step + ROUNDING)
    return [slice(a, b) for a, b in pairwise(math.ceil(k * per_step - ROUNDING) for k in range(n_steps + 1))]


def average(cleaned_TV: NDArray[np.float32], steady: NDArray[np.bool_], steps: Sequence[slice], clip_sigma: float) -> NDArray[np.float32]:
    """The mean of the volumes of each time step, z-scored again and clipped: means vary less than single volumes.

    Args:
        cleaned_TV: a cleaned run (`boldscribe.bold.series.clean`).
        steady: (T,) volumes that took part in its cleaning; a time step with another one becomes 0.
        steps: of `time_steps`.
        clip_sigma: largest absolute value (SD).

    Returns:
        (steps, V); constant voxels are 0.
    """
    used = np.array([steady[step].all() for step in steps], bool)
    averaged_TV = np.stack([cleaned_TV[step].mean(axis=0) for step in steps])
    averaged_TV -= averaged_TV[used].mean(axis=0)
    sd = averaged_TV[used].std(axis=0)
    averaged_TV /= np.where(sd > 1e-5, sd, np.inf)
    averaged_TV[~used] = 0
    return np.clip(averaged_TV, -clip_sigma, clip_sigma)
