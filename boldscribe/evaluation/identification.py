"""Identification: is a decoded text nearer to its own clip's caption than to the captions of other clips?

Text scores are high between any two captions in one house style, so that an unrelated caption scores well. Identification
is free of this: a text that says nothing about its clip identifies it at chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

# Cosines nearer than this are taken as equal: they come from float32 vectors.
TOLERANCE = 1e-6


def columns(ways: Sequence[int]) -> list[str]:
    """Names of the columns that `identification` gives."""
    return ["identification", *(f"identification_{k}way" for k in ways)]


def identification(similarity_PC: NDArray[np.floating], ways: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Accuracy of identification (%) if each candidate in turn were the prediction's own caption, by `columns(ways)`: (P, C) each.

    The k-way accuracy is the chance that the own caption is the nearest among itself and k - 1 others, drawn without
    replacement; it shares the first place with those that tie. Top-1 takes all candidates. Of n candidates, let l be less similar
    than the own one and t tie with it. Of the draws with j ties and no nearer one, 1 / (j + 1) counts; the sum over j,

        sum_j binom(t, j) binom(l, k-1-j) / (j + 1) / binom(n-1, k-1) = [binom(l+t+1, k) - binom(l, k)] / [(t + 1) binom(n-1, k-1)],

    by binom(t, j) / (j + 1) = binom(t+1, j+1) / (t + 1) and Vandermonde's identity. Chance is 1/k: the mean over candidates.

    Args:
        similarity_PC: similarity of each prediction to each of the distinct captions of its subject.
        ways: numbers of candidates k; NaN where there are fewer than k.
    """
    n = similarity_PC.shape[1]
    ordered_PC = np.sort(similarity_PC, axis=1)
    below, above = similarity_PC - TOLERANCE, similarity_PC + TOLERANCE
    less_PC = np.stack([np.searchsorted(row, s, "left") for row, s in zip(ordered_PC, below, strict=True)])
    not_nearer_PC = np.stack([np.searchsorted(row, s, "right") for row, s in zip(ordered_PC, above, strict=True)])
    # not_nearer is l + t + 1: it includes the own caption
    share_PC = 1 / (not_nearer_PC - less_PC)
    accuracies = []
    for k in (n, *ways):
        if k > n:
            accuracies.append(np.full(similarity_PC.shape, np.nan))
        else:
            accuracies.append(100 * share_PC * (_draws(not_nearer_PC, k, n) - _draws(less_PC, k, n)))
    return dict(zip(columns(ways), accuracies, strict=True))


def _draws(m_PC: NDArray[np.integer], k: int, n: int) -> NDArray[np.float64]:
    """binom(m, k) / binom(n - 1, k - 1), by logarithms, since binomials of 180 out of hundreds overflow."""
    m = np.maximum(m_PC, k).astype(float)
    log = gammaln(m + 1) - gammaln(m - k + 1) - gammaln(k + 1) - gammaln(n) + gammaln(k) + gammaln(n - k + 1)
    return np.where(m_PC >= k, np.exp(log), 0.0)
