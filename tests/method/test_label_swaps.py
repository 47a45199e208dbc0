"""Two decoders are compared by swapping their texts, in both directions, and the verdict says what can and cannot be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics import BLEU
from scipy import stats

from benchmarks.coverage import DECODERS, one_table
from boldscribe.config import Config
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.label_swaps import drawn_swaps, swapped_differences
from boldscribe.evaluation.permutation import detectable, permutation_test
from boldscribe.evaluation.statistics import metrics_of, trial_statistics
from boldscribe.evaluation.verdicts import prevalence, verdicts
from tests.scored import pairs_of

N = 9


@pytest.fixture
def two() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of the texts of two decoders, of which the first knows more of its clips."""
    first, second = (pairs_of("05", condition, N, knows=knows) for condition, knows in (("model", 12.0), ("ridge", 4.0)))
    return first.query("trial == other"), second.query("trial == other")


def differences(two: tuple[pd.DataFrame, pd.DataFrame], n: int = 20000) -> np.ndarray:
    (swaps,) = drawn_swaps([[f"clip {i}" for i in range(N)]], n, np.random.default_rng(3))
    return swapped_differences(np.stack([trial_statistics(table) for table in two], axis=1), swaps)[:, 0]


def test_the_test_is_that_of_all_assignments_of_the_labels(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Against scipy's exact paired test; the other direction is the mirror image."""
    less_NM, m = differences(two), metrics_of(two[0].columns).index("bertscore")
    scores = [table["bertscore"].to_numpy() for table in two]
    for direction, alternative in ((1, "greater"), (-1, "less")):
        exact = stats.permutation_test(
            scores, lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf, alternative=alternative, vectorized=False
        )
        tested = permutation_test(direction * less_NM[:, [m]])
        assert tested.statistic[0] == pytest.approx(direction * exact.statistic) and tested.p[0] == pytest.approx(exact.pvalue, abs=0.012)


def test_corpus_level_scores_are_those_of_the_swapped_texts(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    (swaps,) = drawn_swaps([[f"clip {i}" for i in range(N)]], 5, np.random.default_rng(3))
    found, m = differences(two, 5), metrics_of(two[0].columns).index("sacrebleu_1")
    texts, references = [table["prediction"].tolist() for table in two], two[0]["reference"].tolist()
    for draw in range(6):
        pairs = [(b, a) if swapped else (a, b) for a, b, swapped in zip(*texts, swaps[draw], strict=True)]
        first, second = (BLEU(max_ngram_order=1).corpus_score(list(side), [references]).score for side in zip(*pairs, strict=True))
        assert found[draw, m] == pytest.approx(first - second, abs=1e-6)


def test_what_could_have_been_seen_would_have_been(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    less_NM = differences(two)[:, :4]
    smallest = detectable(less_NM, 0.05)
    for share, significant in ((1.05, True), (0.8, False)):
        shown = np.concatenate([(share * smallest)[None], less_NM[1:]])
        assert (permutation_test(shown).p_max[0] <= 0.05) == significant
    assert (detectable(np.zeros((10, 2)), 0.05) == 0).all()


def test_all_trials_of_a_clip_swap_together() -> None:
    one, other = drawn_swaps([["a", "b", "a"], ["b", "c"]], 50, np.random.default_rng(0))
    assert not one[0].any() and not other[0].any() and one.any()
    assert (one[:, 0] == one[:, 2]).all() and (one[:, 1] == other[:, 0]).all() and not (other[:, 0] == other[:, 1]).all()


@pytest.mark.parametrize(("significant", "subjects", "bound"), [(2, 2, 0.33), (4, 4, 0.53), (1, 4, 0.05), (30, 30, 0.90)])
def test_what_significant_subjects_say_of_others(significant: int, subjects: int, bound: float) -> None:
    """Against a posterior on a grid of shares (Ince et al. 2021)."""
    shares = np.linspace(0, 1, 20001)
    likelihood = stats.binom.pmf(significant, subjects, 0.05 + 0.95 * shares)
    grid = shares[np.searchsorted(np.cumsum(likelihood) / likelihood.sum(), 0.05)]
    assert prevalence(significant, subjects, 0.05) == pytest.approx(grid, abs=1e-3) and grid == pytest.approx(bound, abs=0.01)


def claims(n: int, **drawn: Any) -> pd.DataFrame:
    """Whether any decoder is said to be beaten (True) and to beat the model (False), by experiment."""
    tables = [one_table(2, 48, s, n_permutations=400, advantage=0.0, styles=0.0, controls=DECODERS, **drawn) for s in range(n)]
    overall = pd.concat([t[(t["metric"] == ANY) & (t["against"] != CHANCE)].assign(experiment=s) for s, t in enumerate(tables)])
    return overall.groupby([overall["condition"] == "model", "experiment"])["beats"].any().unstack(0)


def test_equal_decoders_are_not_told_apart_and_unequal_ones_are_in_both_directions() -> None:
    """A quick version of `python -m benchmarks.coverage --only decoders`, whose figures stand in docs/statistics.md."""
    equal = claims(40, information=6.0, right=(0.7, 0.7)).any(axis=1)
    assert stats.binomtest(int(equal.sum()), 40, 0.05, alternative="greater").pvalue > 1e-2
    assert claims(3, information=3.0, right=(0.9, 0.4)).all().to_dict() == {False: False, True: True}
    assert claims(3, information=3.0, right=(0.4, 0.9)).all().to_dict() == {False: True, True: False}


CASES = {
    "wins": ((0.001, True), (1.0, False), "the model beats ridge regression (p = 0.001)."),
    "loses": ((1.0, False), (0.002, True), "the model is beaten by ridge regression (p = 0.002)."),
    "both": ((0.001, True), (0.002, True), "the model beats in some scores, and is beaten in others by, ridge regression (p = 0.001)."),
    "neither": (
        (0.4, False),
        (1.0, False),
        "the model cannot be told apart from ridge regression (p = 0.4) (a difference of 4.2 in BERTScore and 9.0 in Identification 2-way "
        "would have been seen).",
    ),
    "same": ((1.0, False), (1.0, False), "the model scores the same in every trial as ridge regression."),
}


@pytest.mark.parametrize("case", CASES)
def test_every_outcome_has_its_words(case: str) -> None:
    model, control, words = CASES[case]
    smallest = {"bertscore": 0.0, "identification_2way": 0.0} if case == "same" else {"bertscore": 4.2, "identification_2way": 9.0}
    entries: list[tuple[Any, ...]] = [
        ("Total", "model", CHANCE, "model", ANY, np.nan, 0.001, True),
        ("Subject-1", "model", CHANCE, "model", ANY, np.nan, 0.001, True),
        ("Subject-2", "model", CHANCE, "model", ANY, np.nan, 0.3, False),
    ]
    for (p, beats), pair in ((model, ("model", "ridge")), (control, ("ridge", "model"))):
        entries += [("Total", *pair, "control", metric, smallest.get(metric, np.nan), p, beats) for metric in (ANY, *smallest)]
    tests = pd.DataFrame(entries, columns=["row", "condition", "against", "kind", "metric", "detectable", "p_holm", "beats"])
    first, second = verdicts(Config(), tests.assign(p=tests["p_holm"]))
    assert second == f"Of the other controls, {words}"
    assert "in these 2 subjects" in first
    assert first.endswith("1 of 2 subjects show it: with 95 % probability it holds in at least 10 % of people.")
