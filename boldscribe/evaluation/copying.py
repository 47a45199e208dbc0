"""Detection of texts copied from their references: a second line of defence besides the guard that keeps decoding from opening them.

A captioner that samples answers a clip differently each time. Let p be the distribution of its answers to a clip and its instruction.
The reference is a draw from p. A decoder that has not read it equals it at most with probability max p, even if it saw the clip and
knows p. Moreover, max p <= sqrt(sum p^2), where the sum is the probability that two of the captioner's answers to the clip are equal.
By Jensen's inequality, the mean of these bounds over trials is at most the square root of the captioner's mean agreement with itself,
which the condition `captioner` measures. Texts that equal their references more often have been copied from them.

Greedy captions have no such bound, since a perfect decoder would repeat each of them; nor have sentences by people. There, an alarm is
raised only if nearly all texts equal their references; copying into fewer texts goes undetected.
"""

from __future__ import annotations

from math import floor, sqrt

import pandas as pd
from scipy.stats import binomtest

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.descriptions import CAPTIONS

CERTAINTY = 0.998  # of exact binomial intervals (Clopper & Pearson 1934): each end is wrong in 1 of 1,000 cases
WITHOUT_BOUND = 0.8  # share of equal texts above which an alarm is raised if the captioner is greedy or its agreement is unknown


def copying(config: Config, scores: pd.DataFrame, references: str = CAPTIONS) -> dict[str, str]:
    """Find conditions whose texts equal their references more often than is possible without reading them: name → alarm, in words.

    Args:
        config: the experiment (`video_llama.do_sample`).
        scores: `condition, subject, trial, prediction, reference`.
        references: the captions, or people's sentences, for which the captioner's agreement with itself is no bound.
    """
    equal = _spaced(scores["prediction"]) == _spaced(scores["reference"])
    # Trials with equal references may share one answer of the captioner. They count once, so that the intervals are not too narrow.
    draws = scores["reference"].nunique()
    agreement = equal[scores["condition"] == "captioner"]
    bounded = references == CAPTIONS and config.video_llama.do_sample and len(agreement) > 0
    limit = sqrt(_interval(agreement.mean(), draws)[1]) if bounded else WITHOUT_BOUND
    why = (
        f"a captioner that agrees with itself in {agreement.mean():.1%} of trials allows no more than {limit:.0%}"
        if bounded
        else f"an alarm is raised above {limit:.0%}"
    )
    alarms = {}
    for name, matches in equal.groupby(scores["condition"], sort=False):
        if CONDITIONS[str(name)].kind != "ceiling" and _interval(matches.mean(), draws)[0] > limit:
            alarms[str(name)] = (
                f"ALARM: the texts of '{CONDITIONS[str(name)].title}' equal their references word for word in {int(matches.sum())} of "
                f"{len(matches)} trials ({matches.mean():.1%}); {why}, unless the references themselves have been read: believe no number "
                "of it until it is known how they came to it"
            )
    return alarms


def _spaced(texts: pd.Series) -> pd.Series:
    """Separate the words of each text by single spaces."""
    return texts.str.split().str.join(" ")


def _interval(share: float, draws: int) -> tuple[float, float]:
    interval = binomtest(floor(share * draws + 1e-9), draws).proportion_ci(CERTAINTY, "exact")
    return float(interval.low), float(interval.high)
