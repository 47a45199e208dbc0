"""Identification: whether a decoded text is nearer to its own clip's caption than to the captions of other clips.

Any two captions in one house style have high text scores, so even an unrelated caption scores well. Identification is free of
this bias: a text that says nothing about its clip identifies it at chance level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

# Cosines that differ by less count as equal: they come from float32 vectors.
TOLERANCE = 1e-6


def columns(ways: Sequence[int]) -> list[str]:
    """Return the names of the columns that `identification` returns."""
    return ["identification", *(f"identification_{k}way" for k in ways)]


def identification(similarity_PC: NDArray[np.floating], ways: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Compute the identification accuracy (%) with each candidate in turn as the own caption, by `columns(ways)`: (P, C) each.

    The k-way accuracy is the probability that the own caption is the nearest among itself and k - 1 others, drawn without
    replacement; ties share the first place. Top-1 uses all candidates. Of n candidates, let l be less similar than the own one
    and t tie with it. A draw with j ties and no nearer candidate counts as 1 / (j + 1); the sum over j is

        sum_j binom(t, j) binom(l, k-1-j) / (j + 1) / binom(n-1, k-1) = [binom(l+t+1, k) - binom(l, k)] / [(t + 1) binom(n-1, k-1)],

    by binom(t, j) / (j + 1) = binom(t+1, j+1) / (t + 1) and Vandermonde's identity. Chance is 1/k: the mean over candidates.

    Args:
        similarity_PC: similarity of each prediction to each of the distinct captions of its subject.
        ways: numbers of candidates k; the accuracy is NaN if there are fewer than k.
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
    """Compute binom(m, k) / binom(n - 1, k - 1) via logarithms, since binomials of 180 out of hundreds overflow."""
    m = np.maximum(m_PC, k).astype(float)
    log = gammaln(m + 1) - gammaln(m - k + 1) - gammaln(k + 1) - gammaln(n) + gammaln(k) + gammaln(n - k + 1)
    return np.where(m_PC >= k, np.exp(log), 0.0)
