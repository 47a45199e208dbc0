"""Scores of each subject and of all together, with two intervals each: over other trials, and over other subjects.

A subject's score is a function of sums over its trials: a mean, or corpus-level BLEU from n-gram counts. A resample is therefore
a count per trial, and all resamples of all scores are one matrix product. Conditions share the resamples, which pairs them
trial by trial: the interval of a difference is that of the paired difference. The total is the mean of the subjects' scores,
as in the paper.

- Over trials (`Row.over_trials`): trials are drawn within each subject. Shows what other trials of these subjects would give.
- Over subjects (`Row.over_subjects`): hierarchical bootstrap; subjects are drawn, then trials of each drawn subject. Shows what
  other subjects of the same kind would give.

In small samples, bootstrap draws spread too little, and the tails of a percentile interval are too short (Hesterberg 2015, The
American Statistician 69:371). docs/statistics.md gives the coverage that was measured before and after correcting both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from boldscribe.evaluation.bleu import COUNTS, corpus_bleu
from boldscribe.evaluation.metrics import METRICS, in_order

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Each trial also has a score by each metric; the trial scores of a corpus-level metric have another name.
SENTENCE_BLEU = {name: f"{name}_sentence" for name, metric in METRICS.items() if metric.corpus}
CONFIDENCE = 0.95
RANGES = {name: (metric.lowest, metric.highest) for name, metric in METRICS.items()}


def means_of(columns: Iterable[str]) -> list[str]:
    """Return the per-trial scores among the columns of a table of scores, in table order; sentence-level BLEU comes last."""
    return sorted(in_order(columns), key=lambda name: name in SENTENCE_BLEU)


def metrics_of(columns: Iterable[str]) -> list[str]:
    """Return the metrics that a table of scores provides: means over trials, then corpus-level BLEU."""
    columns = list(columns)
    return [*(SENTENCE_BLEU.get(name, name) for name in means_of(columns)), *SENTENCE_BLEU]


def trial_statistics(scores: pd.DataFrame) -> Floats:
    """Return the statistics to sum over trials (trials, K): per-trial scores (%), then the n-gram counts of `COUNTS`."""
    return scores[[*means_of(scores.columns), *COUNTS]].to_numpy(float)


def scores_of_sums(sums_XK: Floats, n_trials: int | Counts) -> Floats:
    """Compute scores (..., M), in the order of `metrics_of`, from sums over trials (..., K).

    Args:
        sums_XK: sums of `trial_statistics`.
        n_trials: trials in each sum, or in all; where it is 0, the scores are 0.
    """
    means_XK, counts_XK = np.split(sums_XK, [sums_XK.shape[-1] - len(COUNTS)], axis=-1)
    flat = counts_XK.reshape(-1, len(COUNTS))
    bleu = [corpus_bleu(flat, order).reshape(*sums_XK.shape[:-1], 1) for order in (1, 2)]
    return np.concatenate([means_XK / np.maximum(n_trials, 1), *bleu], axis=-1)


@dataclass(frozen=True)
class Row:
    """Scores of a row of the table (a subject or the total), for conditions C and metrics M, with B resamples.

    Attributes:
        subjects_SCM: scores of each subject; the row's scores are their mean.
        trials_BCM: the row's scores for resampled trials.
        hierarchical_BCM: the row's scores for resampled subjects and trials; None for a single subject.
        n_trials: trials of each subject.
    """

    subjects_SCM: Floats
    trials_BCM: Floats
    hierarchical_BCM: Floats | None
    n_trials: tuple[int, ...]

    @property
    def value_CM(self) -> Floats:
        """Scores (C, M)."""
        return self.subjects_SCM.mean(0)

    def first_less_others(self) -> Row:
        """Subtract each of the other conditions from the first: a row of C - 1 conditions."""

        def difference(scores: Floats) -> Floats:
            return scores[:, :1] - scores[:, 1:]

        hierarchical = None if self.hierarchical_BCM is None else difference(self.hierarchical_BCM)
        return Row(difference(self.subjects_SCM), difference(self.trials_BCM), hierarchical, self.n_trials)

    def over_trials(self) -> tuple[Floats, Floats]:
        """Return the ends (C, M) of the 95 % interval over other trials of these subjects: Hesterberg's expanded percentile interval."""
        per_subject = np.mean(self.n_trials)
        degrees = max(sum(self.n_trials) - len(self.n_trials), 1)
        shrunken = np.sqrt((per_subject - 1) / per_subject)
        tail = stats.norm.sf(stats.t.isf((1 - CONFIDENCE) / 2, degrees) / max(shrunken, 0.5))
        low, high = np.quantile(self.trials_BCM, [tail, 1 - tail], axis=0)
        return low, high

    def over_subjects(self) -> tuple[Floats, Floats]:
        """Return the ends (C, M) of the 95 % interval over other subjects; for a single subject, of that over trials.

        The hierarchical bootstrap's spread is wrong twice. G subjects that are drawn from G spread only (G - 1) / G as much as they
        should. Trial noise counts twice: in the drawn trials, and in the subjects' scores, which already contain it
        (Davison & Hinkley 1997, section 3.8). The percentile interval is therefore rescaled to the spread of the mean of the
        subjects' scores, with the tails of Student's t instead of normal ones. It is never narrower than the interval over trials.
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
    """Yield a row for each subject, then the total's row.

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
        # a subject that is drawn twice contributes two resamples of its trials, drawn as one of twice the size
        again_BT = rng.multinomial(n_trials * drawn_B, np.full(n_trials, 1 / n_trials))
        share_B = drawn_B[:, None, None] / n_subjects
        hierarchical_BCM = hierarchical_BCM + share_B * resampled_scores(statistics_TCK, again_BT)
        yield Row(values[-1][None], trials_BCM, None, (n_trials,))
    assert isinstance(total_BCM, np.ndarray) and isinstance(hierarchical_BCM, np.ndarray)
    yield Row(np.stack(values), total_BCM, hierarchical_BCM if n_subjects > 1 else None, tuple(map(len, statistics_STCK)))


def resamples(n: int, n_resamples: int, rng: np.random.Generator) -> Counts:
    """Count how often each of n items is drawn in each bootstrap resample, (B, n): n draws with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)


def resampled_scores(statistics_TCK: Floats, drawn_BT: Counts) -> Floats:
    """Compute the scores (B, C, M) of resamples of a subject's trials."""
    sums_BCK = np.tensordot(drawn_BT.astype(float), statistics_TCK, axes=1)
    return scores_of_sums(sums_BCK, drawn_BT.sum(1)[:, None, None])


def bounded(ends: tuple[Floats, Floats], metrics: Sequence[str]) -> tuple[Floats, Floats]:
    """Clip the ends of intervals (..., M) to the range of each score."""
    lowest, highest = np.array([RANGES.get(metric, (0.0, 100.0)) for metric in metrics]).T
    return np.maximum(ends[0], lowest), np.minimum(ends[1], highest)


def effect_size(differences_STX: Sequence[Floats]) -> Floats:
    """Compute Cohen's d_z of paired differences of each subject's trials (trials, ...): mean divided by standard deviation (...).

    Both are within subjects (mean of means, root of the mean variance), so that level differences between subjects do not count
    as noise. NaN where the differences do not vary over trials.
    """
    mean_X = np.mean([d_TX.mean(0) for d_TX in differences_STX], axis=0)
    deviation_X = np.sqrt(np.mean([d_TX.var(0, ddof=1) if len(d_TX) > 1 else np.full(mean_X.shape, np.nan) for d_TX in differences_STX], 0))
    return np.divide(mean_X, deviation_X, out=np.full_like(mean_X, np.nan), where=deviation_X > 1e-9)


def trials_won(differences_STX: Sequence[Floats]) -> Floats:
    """Return the share of each subject's trials (trials, ...) with a difference above 0 (%), ties halved; mean over subjects (...)."""
    return np.mean([50 * (1 + np.sign(d_TX)).mean(0) for d_TX in differences_STX], axis=0)
