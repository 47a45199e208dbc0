"""Slow drifts of the signal."""

from __future__ import annotations

import numpy as np
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from numpy.typing import NDArray

HIGH_PASS_PERIOD = 128.0  # s, fMRIPrep's


def cosines(n_volumes: int, tr: float) -> NDArray[np.float64]:
    """Return discrete cosine regressors with periods above 128 s, (T, K), without the constant."""
    return np.asarray(create_cosine_drift(1 / HIGH_PASS_PERIOD, np.arange(n_volumes) * tr)[:, :-1])
