"""Common time step for runs of different sampling rates: pretraining data may be sampled faster than the experiment's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6  # of a volume: 1.44 s are two volumes of 0.72 s despite rounding


def time_steps(n_volumes: int, repetition_time: float, seconds: float | None) -> list[slice]:
    """Return the volumes in each complete time step of a run; one each if the run is not sampled faster.

    Args:
        n_volumes: of the run; volume i is at i · `repetition_time`.
        repetition_time: s.
        seconds: length of a time step; step k spans k · `seconds` to (k + 1) · `seconds`, end excluded. None: as sampled.
    """
    per_step = max(1.0, (seconds or 0.0) / repetition_time)
    n_steps = math.floor(n_volumes / per_step + ROUNDING)
    return [slice(a, b) for a, b in pairwise(math.ceil(k * per_step - ROUNDING) for k in range(n_steps + 1))]


def average(cleaned_TV: NDArray[np.float32], steady: NDArray[np.bool_], steps: Sequence[slice], clip_sigma: float) -> NDArray[np.float32]:
    """Average the volumes of each time step, z-score again and clip: means vary less than single volumes.

    Args:
        cleaned_TV: a cleaned run (`boldscribe.data.series.clean`).
        steady: (T,) volumes used in its cleaning; a time step that contains any other becomes 0.
        steps: from `time_steps`.
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
