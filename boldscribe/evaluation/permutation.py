"""Permutation tests of whether a text's score depends on its own clip, or any clip of the same instruction would do.

A subject's references are permuted among its trials of the same instruction (which sets the style of texts), with the same
permutation for all conditions. Under the hypothesis that texts do not tell trials apart, each pairing of texts and references
is as likely as the true one. The rank of the true pairing is therefore exact, whatever the scores are (Good 2005, Permutation,
Parametric and Bootstrap Tests, 3.2). Style, in which a model may differ from a control, is the same under each permutation:
a difference that is only one of style cannot reach significance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from boldscribe.evaluation.statistics import Floats, scores_of_sums

# Scores (%) that differ by less are equal: the same sums, added in another order.
TIE = 1e-7
CHUNK = 1000


@dataclass(frozen=True)
class Test:
    """One-sided tests of one statistic per metric (M).

    Attributes:
        statistic: under the true pairing.
        expected: its mean over all pairings, the level that style achieves.
        p: of each metric separately.
        p_max: of each metric, corrected for the number of metrics (max-statistic, Westfall & Young 1993).
        any: the largest standardised statistic and its p: whether any metric shows an effect.
    """

    statistic: Floats
    expected: Floats
    p: Floats
    p_max: Floats
    any: tuple[float, float]


def permuted_scores(
    pairs_PCK: Floats, pair_of: NDArray[np.int64], instructions: Sequence[str], n_permutations: int, rng: np.random.Generator
) -> Floats:
    """Compute scores (1 + N, C, M) of a subject's conditions: first under the true pairing, then under N permutations of references.

    Args:
        pairs_PCK: statistics of each pair of text and reference, in each condition (`trial_statistics`).
        pair_of: (trials, trials) index in `pairs_PCK` of the pair of a trial's text and another's reference.
        instructions: of each trial; only trials with the same one exchange references.
        n_permutations: N.
        rng: draws the permutations.
    """
    n_trials = len(instructions)
    others_NT = np.tile(np.arange(n_trials), (1 + n_permutations, 1))
    for instruction in dict.fromkeys(instructions):
        block = np.flatnonzero(np.asarray(instructions) == instruction)
        others_NT[1:, block] = rng.permuted(others_NT[1:, block], axis=1)
    n_pairs, n_conditions, n_statistics = pairs_PCK.shape
    flat = pairs_PCK.reshape(n_pairs, -1)
    scores = []
    for start in range(0, len(others_NT), CHUNK):
        pairs_NT = pair_of[np.arange(n_trials), others_NT[start : start + CHUNK]]
        ends = np.arange(0, pairs_NT.size + 1, n_trials)
        chosen = csr_array((np.ones(pairs_NT.size), pairs_NT.ravel(), ends), shape=(len(pairs_NT), n_pairs))
        scores.append(scores_of_sums((chosen @ flat).reshape(-1, n_conditions, n_statistics), n_trials))
    return np.concatenate(scores)


def _standardised(statistics_NM: Floats) -> tuple[Floats, Floats, Floats]:
    """Return statistics scaled to mean 0 and SD 1 over all N + 1, 0 where nothing varies; and their means and SD."""
    mean_M, deviation_M = statistics_NM.mean(0), statistics_NM.std(0)
    varies_M = deviation_M > TIE
    return np.where(varies_M, (statistics_NM - mean_M) / np.where(varies_M, deviation_M, 1), 0), mean_M, deviation_M


def detectable(statistics_NM: Floats, significance: float) -> Floats:
    """Return the smallest value of each statistic that would be significant as the largest of all (M,); 0 where nothing varies.

    Args:
        statistics_NM: as for `permutation_test`.
        significance: level of one test.
    """
    standardised_NM, mean_M, deviation_M = _standardised(statistics_NM)
    needed = np.quantile(standardised_NM.max(1), 1 - significance, method="higher")
    return np.where(deviation_M > TIE, mean_M + needed * deviation_M, 0)


def permutation_test(statistics_NM: Floats) -> Test:
    """Test whether the first of the statistics (N + 1, M) is larger than the others: p = (1 + #>=) / (N + 1).

    Each metric is standardised over all N + 1 pairings, including the true one, so that no scale outweighs the others and
    the test stays exact. A metric that is the same under each pairing is uninformative: its p is 1.
    """
    standardised_NM, mean_M, _ = _standardised(statistics_NM)
    largest_N = standardised_NM.max(1)
    return Test(
        statistics_NM[0],
        mean_M,
        (statistics_NM >= statistics_NM[0] - TIE).mean(0),
        (largest_N[:, None] >= standardised_NM[0] - TIE).mean(0),
        (float(largest_N[0]), float((largest_N >= largest_N[0] - TIE).mean())),
    )
