"""Paired tests of two decoders: which of two texts is whose is swapped within trials.

The model and an informed condition (another decoder, another training, a ceiling) may both tell trials apart, so that a permutation of
references would test neither against the other. Under the hypothesis that they are equally good, the two texts of a trial may change
places: each assignment of the two labels is as likely as the true one, and the rank of the true difference is exact (Good 2005,
Permutation, Parametric and Bootstrap Tests, 3.2; for means it is the sign-flip test). All trials of a clip swap together, in all subjects
who saw it, since their scores share the clip's reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boldscribe.evaluation.statistics import Floats, scores_of_sums

Swaps = NDArray[np.bool_]


def drawn_swaps(clips: Sequence[Sequence[str]], n_swaps: int, rng: np.random.Generator) -> list[Swaps]:
    """Draw the trials whose labels are swapped, (1 + N, trials) for each subject; in the first draw none.

    Args:
        clips: of each subject's trials.
        n_swaps: N.
        rng: draws them.
    """
    names, index = np.unique(np.concatenate([np.asarray(of_subject, str) for of_subject in clips]), return_inverse=True)
    swapped_NX = rng.integers(0, 2, (1 + n_swaps, len(names)), dtype=np.int8).astype(bool)
    swapped_NX[0] = False
    ends = np.cumsum([len(of_subject) for of_subject in clips])[:-1]
    return [swapped_NX[:, own] for own in np.split(index, ends)]


def swapped_differences(statistics_TCK: Floats, swapped_NT: Swaps) -> Floats:
    """Compute the first condition's scores less each other's (1 + N, C - 1, M), with labels swapped in some trials of a subject.

    Args:
        statistics_TCK: `trial_statistics` of a subject's trials under each condition.
        swapped_NT: from `drawn_swaps`.
    """
    first_T1K, others_TDK = statistics_TCK[:, :1], statistics_TCK[:, 1:]
    moved_NDK = np.tensordot(swapped_NT.astype(float), others_TDK - first_T1K, axes=1)
    n_trials = len(statistics_TCK)
    return scores_of_sums(first_T1K.sum(0) + moved_NDK, n_trials) - scores_of_sums(others_TDK.sum(0) - moved_NDK, n_trials)
