"""Scores of subjects and of all together, and two intervals of each: over other trials, and over other subjects.

A score of a subject is a function of sums over its trials: a mean, or corpus-level BLEU from n-gram counts. So a resample is
a count per trial, and all resamples of all scores are one matrix product. Conditions share the resamples, which pairs them
trial by trial: the interval of a difference is that of the paired difference. The total is the mean of the subjects' scores,
as in the paper.

- Trials of these subjects (`Row.over_trials`): trials are drawn within each subject. What other trials of them would give.
- Subjects (`Row.over_subjects`): hierarchical bootstrap; subjects are drawn, then trials of each that is drawn. What other
  subjects of the same kind would give.

Few draws of few things spread too little, and the tails of a percentile interval are too short (Hesterberg 2015, The American
Statistician 69:371). docs/statistics.md gives the coverage that was measured, before and after both are mended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from boldscribe.evaluation.bleu import COUNTS, corpus_bleu

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

TEXT_MEANS = ["bertscore", "rouge_l_f", "rouge_l_p", "rouge_l_r", "cider", "meteor", "sentence_similarity"]
SENTENCE_BLEU = {"sacrebleu_1": "sacrebleu_1_sentence", "sacrebleu_2": "sacrebleu_2_sentence"}
WAYS = re.compile(r"identification_(\d+)way")
CONFIDENCE = 0.95
# What a score can be (%), where it is not 0 to 100; an interval ends there.
RANGES = {"bertscore": (-np.inf, 100.0), "sentence_similarity": (-100.0, 100.0), "cider": (0.0, np.inf)}


def means_of(columns: Iterable[str]) -> list[str]:
    """The per-trial scores among the columns of a table of scores, in the order of tables; sentence-level BLEU comes last."""
    columns = list(columns)
    ways = sorted((c for c in columns if WAYS.fullmatch(c)), key=lambda c: int(WAYS.fullmatch(c)[1]))  # type: ignore[index]
    return [c for c in [*TEXT_MEANS, *ways, "identification", *SENTENCE_BLEU] if c in columns]


def metrics_of(columns: Iterable[str]) -> list[str]:
    """The metrics that a table of scores gives: means over trials, and corpus-level BLEU."""
    columns = list(columns)
    return [*(SENTENCE_BLEU.get(name, name) for name in means_of(columns)), *SENTENCE_BLEU]


def trial_statistics(scores: pd.DataFrame) -> Floats:
    """What is summed over trials (trials, K): per-trial scores (%), then the n-gram counts of `COUNTS`."""
    return scores[[*means_of(scores.columns), *COUNTS]].to_numpy(float)


def scores_of_sums(sums_XK: Floats, n_trials: int | Counts) -> Floats:
    """Scores (..., M) in the order of `metrics_of` from sums over trials (..., K).

    Args:
        sums_XK: sums of `trial_statistics`.
        n_trials: of each sum, or of all; where it is 0, the scores are 0.
    """
    means_XK, counts_XK = np.split(sums_XK, [sums_XK.shape[-1] - len(COUNTS)], axis=-1)
    flat = counts_XK.reshape(-1, len(COUNTS))
    bleu = [corpus_bleu(flat, order).reshape(*sums_XK.shape[:-1], 1) for order in (1, 2)]
    return np.concatenate([means_XK / np.maximum(n_trials, 1), *bleu], axis=-1)


@dataclass(frozen=True)
class Row:
    """Scores of a row of the table (a subject, or the total), of conditions C and metrics M, with B resamples.

    Attributes:
        subjects_SCM: scores of each subject; the row's are their mean.
        trials_BCM: the row's, of resampled trials.
        hierarchical_BCM: the row's, of resampled subjects and trials; None for a single subject.
        n_trials: trials of each subject.
    """

    subjects_SCM: Floats
    trials_BCM: Floats
    hierarchical_BCM: Floats | None
    n_trials: tuple[int, ...]

    @property
    def value_CM(self) -> Floats:
        """The scores (C, M)."""
        return self.subjects_SCM.mean(0)

    def first_less_others(self) -> Row:
        """The first condition less each of the others: a row of C - 1 conditions."""

        def difference(scores: Floats) -> Floats:
            return scores[:, :1] - scores[:, 1:]

        hierarchical = None if self.hierarchical_BCM is None else difference(self.hierarchical_BCM)
        return Row(difference(self.subjects_SCM), difference(self.trials_BCM), hierarchical, self.n_trials)

    def over_trials(self) -> tuple[Floats, Floats]:
        """Ends (C, M) of the 95 % interval over other trials of these subjects: Hesterberg's expanded percentile interval."""
        per_subject = np.mean(self.n_trials)
        degrees = max(sum(self.n_trials) - len(self.n_trials), 1)
        shrunken = np.sqrt((per_subject - 1) / per_subject)
        tail = stats.norm.sf(stats.t.isf((1 - CONFIDENCE) / 2, degrees) / max(shrunken, 0.5))
        low, high = np.quantile(self.trials_BCM, [tail, 1 - tail], axis=0)
        return low, high

    def over_subjects(self) -> tuple[Floats, Floats]:
        """Ends (C, M) of the 95 % interval over other subjects; that over trials for one subject alone, whom no other stands beside.

        The hierarchical bootstrap's spread is wrong twice: G subjects that are drawn from G spread (G - 1) / G as much as they
        should, and the noise of trials counts again in trials that are drawn from subjects whose scores have it already
        (Davison & Hinkley 1997, section 3.8). So its percentile interval is brought to the spread of the mean of the
        subjects' scores, with Student's t for the normal tails. It is never narrower than the interval over trials.
        """
        ends = self.over_trials()
        if self.hierarchical_BCM is None:
            return ends
        n_subjects = len(self.subjects_SCM)
        tail = (1 - CONFIDENCE) / 2
        deviations_BCM = self.hierarchical_BCM - self.value_CM
        spread_CM = stats.sem(self.subjects_SCM) * stats.t.isf(tail, n_subjects - 1) / stats.norm.isf(tail)
        drawn_CM = deviations_BCM.std(0)
        scale_CM = np.divide(spread_CM, drawn_CM, out=np.zeros_like(drawn_CM), where=drawn_CM > 0)
        low, high = self.value_CM + scale_CM * np.quantile(deviations_BCM, [tail, 1 - tail], axis=0)
        return np.fmin(low, ends[0]), np.fmax(high, ends[1])


def rows(statistics_STCK: Sequence[Floats], n_resamples: int, rng: np.random.Generator) -> Iterator[Row]:
    """A row for each subject, and the total's last.

    Args:
        statistics_STCK: for each subject, `trial_statistics` of its trials under each condition (trials, C, K).
        n_resamples: B.
        rng: draws the resamples, which all conditions share.
    """
    n_subjects = len(statistics_STCK)
    drawn_BS = resamples(n_subjects, n_resamples, rng)
    total_BCM: Floats | float = 0.0
    hierarchical_BCM: Floats | float = 0.0
    values = []
    for statistics_TCK, drawn_B in zip(statistics_STCK, drawn_BS.T, strict=True):
        n_trials = len(statistics_TCK)
        values.append(scores_of_sums(statistics_TCK.sum(0), n_trials))
        trials_BCM = resampled_scores(statistics_TCK, resamples(n_trials, n_resamples, rng))
        total_BCM = total_BCM + trials_BCM / n_subjects
        # a subject that is drawn twice brings two resamples of its trials: as many draws as both have
        again_BT = rng.multinomial(n_trials * drawn_B, np.full(n_trials, 1 / n_trials))
        share_B = drawn_B[:, None, None] / n_subjects
        hierarchical_BCM = hierarchical_BCM + share_B * resampled_scores(statistics_TCK, again_BT)
        yield Row(values[-1][None], trials_BCM, None, (n_trials,))
    assert isinstance(total_BCM, np.ndarray) and isinstance(hierarchical_BCM, np.ndarray)
    yield Row(np.stack(values), total_BCM, hierarchical_BCM if n_subjects > 1 else None, tuple(map(len, statistics_STCK)))


def resamples(n: int, n_resamples: int, rng: np.random.Generator) -> Counts:
    """How often each of n things is drawn in each bootstrap resample, (B, n): n draws with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)


def resampled_scores(statistics_TCK: Floats, drawn_BT: Counts) -> Floats:
    """Scores (B, C, M) of resamples of a subject's trials."""
    sums_BCK = np.tensordot(drawn_BT.astype(float), statistics_TCK, axes=1)
    return scores_of_sums(sums_BCK, drawn_BT.sum(1)[:, None, None])


def bounded(ends: tuple[Floats, Floats], metrics: Sequence[str]) -> tuple[Floats, Floats]:
    """Ends of intervals (..., M) of scores, within what the scores can be."""
    lowest, highest = np.array([RANGES.get(metric, (0.0, 100.0)) for metric in metrics]).T
    return np.maximum(ends[0], lowest), np.minimum(ends[1], highest)


def effect_size(differences_STX: Sequence[Floats]) -> Floats:
    """Cohen's d_z of paired differences of each subject's trials (trials, ...): their mean by their standard deviation (...).

    Both are within subjects (mean of means, root of the mean variance), so that subjects of different level do not count as
    noise. NaN where no trial differs from another.
    """
    mean_X = np.mean([d_TX.mean(0) for d_TX in differences_STX], axis=0)
    deviation_X = np.sqrt(np.mean([d_TX.var(0, ddof=1) if len(d_TX) > 1 else np.full(mean_X.shape, np.nan) for d_TX in differences_STX], 0))
    return np.divide(mean_X, deviation_X, out=np.full_like(mean_X, np.nan), where=deviation_X > 1e-9)


def trials_won(differences_STX: Sequence[Floats]) -> Floats:
    """Share of each subject's trials (trials, ...) with a difference above 0 (%), ties halved; the mean over subjects (...)."""
    return np.mean([50 * (1 + np.sign(d_TX)).mean(0) for d_TX in differences_STX], axis=0)
