"""Single-trial responses by least squares separate (LSS, Mumford et al. 2012): one model per trial, all solved at once.

Each model has the trial's regressor, one regressor for all other trials, and the nuisance regressors. After projecting the nuisance
out of data and regressors (Frisch, Waugh and Lovell), the trial's weight has a closed form in a few inner products, regardless of the
number of voxels.
"""

from __future__ import annotations

import numpy as np
from nilearn.glm.first_level import compute_regressor
from numpy.typing import NDArray

SHORTEST_DURATION = 0.1  # s, used for events whose duration is n/a or 0


def trial_regressors(
    onsets: NDArray[np.float64], durations: NDArray[np.float64], n_volumes: int, repetition_time: float, start_time: float
) -> NDArray[np.float64]:
    """Convolve each trial with SPM's canonical haemodynamic response, (T, N).

    Args:
        onsets, durations: of the trials (s from the first volume); NaN durations count as brief.
        n_volumes: T.
        repetition_time, start_time: volume k is at `start_time` + k · `repetition_time` (s).
    """
    frame_times = start_time + repetition_time * np.arange(n_volumes)
    columns = []
    for onset, duration in zip(onsets, durations, strict=True):
        length = duration if duration > SHORTEST_DURATION else SHORTEST_DURATION
        regressor, _ = compute_regressor(np.array([[onset], [length], [1.0]]), "spm", frame_times)
        columns.append(regressor[:, 0])
    return np.column_stack(columns)


def separate_responses(
    data_TV: NDArray[np.float32], regressors_TN: NDArray[np.float64], nuisance_TK: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Estimate the weight of each trial in its own model, (N, V).

    Args:
        data_TV: BOLD of one run.
        regressors_TN: from `trial_regressors`.
        nuisance_TK: mean, trend and confounds.

    Returns:
        weights in data units per regressor unit; 0 for a trial whose regressor is collinear with the others and the nuisance.
    """
    u, singular, _ = np.linalg.svd(nuisance_TK / np.maximum(np.abs(nuisance_TK).max(axis=0), 1e-12), full_matrices=False)
    basis_TK = u[:, singular > singular[0] * 1e-10]
    own_TN = regressors_TN - basis_TK @ (basis_TK.T @ regressors_TN)
    other_TN = own_TN.sum(axis=1, keepdims=True) - own_TN
    # projecting the regressors also removes the nuisance from the data; the mean is subtracted first to keep precision in float32
    own_NV = own_TN.T.astype(np.float32) @ (data_TV - data_TV.mean(axis=0))
    other_NV = own_NV.sum(axis=0) - own_NV
    own, other, both = (np.einsum("tn,tn->n", a, b) for a, b in ((own_TN, own_TN), (other_TN, other_TN), (own_TN, other_TN)))
    determinant = own * other - both**2
    alone = other < 1e-9 * own.max()  # a run with a single trial
    weight_own = np.where(alone, 1 / np.maximum(own, 1e-12), other / np.where(determinant > 1e-9 * own * other, determinant, np.inf))
    weight_other = np.where(alone, 0.0, both / np.where(determinant > 1e-9 * own * other, determinant, np.inf))
    return np.asarray(weight_own[:, None] * own_NV - weight_other[:, None] * other_NV, dtype=np.float32)


def standardised(betas_NV: NDArray[np.float32], clip_sigma: float) -> NDArray[np.float32]:
    """Z-score each voxel over the trials of a run, and clip; constant voxels are 0."""
    centred = betas_NV - betas_NV.mean(axis=0)
    sd = centred.std(axis=0)
    return np.clip(centred / np.where(sd > 1e-6 * np.abs(betas_NV).max(initial=1e-12), sd, np.inf), -clip_sigma, clip_sigma)
