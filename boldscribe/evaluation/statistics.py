"""Means, corpus-level scores and their bootstrap intervals: trials are resampled, for all scores and conditions at once.

A score of a subject is a function of sums over its trials: a mean, or corpus-level BLEU from n-gram counts. So a resample is
a count per trial, and all resamples of all scores are one matrix product. Conditions of a subject share the resamples, which
pairs them trial by trial: the interval of a difference is that of the paired difference.

Subjects are strata: trials are resampled within each, and the total is the mean of the subjects' scores, as in the paper.
Its interval says what other trials of these subjects would give, not what other subjects would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.evaluation.bleu import COUNTS, corpus_bleu, sentence_bleu

MEANS = ["bertscore", "rouge_l_f", "rouge_l_p", "rouge_l_r", "identification_2way", "identification", "sacrebleu_1", "sacrebleu_2"]
METRICS = [*MEANS[:-2], "sacrebleu_1_sentence", "sacrebleu_2_sentence", "sacrebleu_1", "sacrebleu_2"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Scores of one condition, in percent, in the order of `METRICS`: `value` (M), and of each resample, `resampled` (B, M)."""

    value: Floats
    resampled: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, self.resampled - other.resampled)

    def interval(self) -> tuple[Floats, Floats]:
        """Ends of the 95 % percentile interval (M), (M)."""
        low, high = np.percentile(self.resampled, [2.5, 97.5], axis=0)
        return low, high


def trial_statistics(scores: pd.DataFrame) -> Floats:
    """What is summed over trials (trials, K): per-trial scores, identification in percent, and n-gram counts.

    Args:
        scores: a table of per-trial scores (docs/data.md).
    """
    percent = scores[MEANS].assign(identification=100 * scores["identification"], identification_2way=100 * scores["identification_2way"])
    counts = sentence_bleu(scores["prediction"].tolist(), scores["reference"].tolist())[COUNTS]
    return np.hstack([percent.to_numpy(float), counts.to_numpy(float)])


def resamples(n_trials: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each trial is drawn in each bootstrap resample, (B, trials): n draws with replacement."""
    return rng.multinomial(n_trials, np.full(n_trials, 1 / n_trials), size=n_resamples)


def estimate(statistics_TK: Floats, resamples_BT: NDArray[np.int64]) -> Estimate:
    """Scores of one subject and condition, and those of its resamples."""
    n_trials = len(statistics_TK)
    value = _scores(statistics_TK.sum(0, keepdims=True), n_trials)[0]
    return Estimate(value, _scores(resamples_BT.astype(float) @ statistics_TK, n_trials))


def total(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over subjects, each resampled by itself."""
    return Estimate(np.mean([e.value for e in estimates], axis=0), np.mean([e.resampled for e in estimates], axis=0))


def _scores(sums_XK: Floats, n_trials: int) -> Floats:
    """Scores (X, M) from sums over trials (X, K)."""
    means, counts = np.split(sums_XK, [len(MEANS)], axis=1)
    return np.column_stack([means / n_trials, corpus_bleu(counts, 1), corpus_bleu(counts, 2)])
