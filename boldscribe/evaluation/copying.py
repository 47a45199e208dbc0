"""Are texts too often word for word their references? A second line beside the guard, which keeps decoding from opening them.

A captioner that samples answers a clip differently each time. Let p be the distribution of its answers to a clip and its instruction.
Nobody who has not read the reference, a draw from p, can equal it more often than max p, not even one who saw the clip and knows p; and
max p <= sqrt(sum p^2), where the sum is how often two of the captioner's answers to the clip are equal. By Jensen's inequality the mean
of these over trials is at most the square root of the captioner's mean agreement with itself, which the condition `captioner` measures.
Texts that equal their references more often have been copied from them.

Greedy captions have no such bound, since a perfect decoder would repeat each: there only texts that nearly all equal their references
raise an alarm, and references copied into fewer are not seen.
"""

from __future__ import annotations

from math import floor, sqrt

import pandas as pd
from scipy.stats import binomtest

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config

CERTAINTY = 0.998  # of exact binomial intervals (Clopper & Pearson 1934): each end is wrong in 1 of 1,000 cases
WITHOUT_BOUND = 0.8  # share beyond which equal texts alarm where the captioner's answers are greedy, or its agreement is not known


def copying(config: Config, scores: pd.DataFrame) -> dict[str, str]:
    """Conditions whose texts equal their references more often than any decoder can that has not read them: name → alarm, in words.

    Args:
        config: the experiment (`video_llama.do_sample`).
        scores: `condition, subject, trial, prediction, reference`.
    """
    equal = _spaced(scores["prediction"]) == _spaced(scores["reference"])
    # Trials with one reference may share one answer of the captioner: they count once, so that the intervals are not too narrow.
    draws = scores["reference"].nunique()
    agreement = equal[scores["condition"] == "captioner"]
    bounded = config.video_llama.do_sample and len(agreement) > 0
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
    """Texts whose words are separated by single spaces."""
    return texts.str.split().str.join(" ")


def _interval(share: float, draws: int) -> tuple[float, float]:
    interval = binomtest(floor(share * draws + 1e-9), draws).proportion_ci(CERTAINTY, "exact")
    return float(interval.low), float(interval.high)
