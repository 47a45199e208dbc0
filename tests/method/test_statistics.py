"""Intervals and tests against scipy and statsmodels, and on simulated experiments whose truth is known."""

import gc
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.coverage import one_coverage, one_table, summary
from boldscribe.evaluation.comparisons import holm, permutation_cells
from boldscribe.evaluation.permutation import permutation_test, permuted_scores
from boldscribe.evaluation.statistics import Row, effect_size, metrics_of, resampled_scores, resamples, rows, trial_statistics, trials_won
from tests.scored import pairs_of


def _statistics(subject: str, n: int, conditions: tuple[str, ...] = ("model", "llm")) -> np.ndarray:
    tables = [pairs_of(subject, c, n).query("trial == other") for c in conditions]
    return np.stack([trial_statistics(t) for t in tables], axis=1)


def test_trial_intervals_agree_with_scipy() -> None:
    subjects = [_statistics("05", 40), _statistics("06", 25)]
    *each, total = rows(subjects, 20000, np.random.default_rng(1))

    def mean_of_means(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([s.mean(axis) for s in samples], axis=0)

    for row, samples in ((each[0], subjects[:1]), (total, subjects)):
        n, degrees = np.mean([len(s) for s in samples]), sum(len(s) - 1 for s in samples)
        # scipy has the plain percentile interval: asked for Hesterberg's level, it gives the expanded one
        level = 1 - 2 * stats.norm.sf(stats.t.isf(0.025, degrees) * np.sqrt(n / (n - 1)))
        for metric in (0, 2):
            reference = stats.bootstrap(
                [s[:, 0, metric] for s in samples], mean_of_means, n_resamples=20000, method="percentile", confidence_level=level, rng=2
            ).confidence_interval
            found = [end[0, metric] for end in row.over_trials()]
            np.testing.assert_allclose(found, reference, atol=0.05 * (reference.high - reference.low))


def test_corpus_bleu_of_a_resample_is_that_of_the_resampled_texts() -> None:
    table = pairs_of("05", "model", 12).query("trial == other").reset_index()
    drawn = resamples(12, 3, np.random.default_rng(0))
    again = table.loc[np.repeat(np.arange(12), drawn[2])]
    expected = BLEU(max_ngram_order=2).corpus_score(again["prediction"].tolist(), [again["reference"].tolist()]).score
    found = resampled_scores(trial_statistics(table)[:, None], drawn)[2, 0, metrics_of(table.columns).index("sacrebleu_2")]
    assert found == pytest.approx(expected)


def test_a_hierarchical_resample_is_of_subjects_and_then_of_their_trials() -> None:
    # trials without spread: only subjects vary; each resample is a mean of as many subjects as there are, drawn with replacement
    constant = [np.full((6, 1, 7), value) for value in (10.0, 20.0, 60.0)]
    *_, total = rows(constant, 4000, np.random.default_rng(0))
    assert total.hierarchical_BCM is not None
    possible = {round(sum(some) / 3, 6): 0 for some in product((10.0, 20.0, 60.0), repeat=3)}
    assert set(np.round(total.hierarchical_BCM[:, 0, 0], 6)) == set(possible)
    assert total.hierarchical_BCM[:, 0, 0].var() == pytest.approx(np.var([10, 20, 60]) / 3, rel=0.1)
    low, high = (end[0, 0] for end in total.over_subjects())
    assert low < 30 - 40 and high > 30 + 40, "three subjects that differ so much say little of others: Student's t has 2 degrees"
    assert [end[0, 0] for end in total.over_trials()] == [30.0, 30.0]
    *_, alone = rows(constant[:1], 100, np.random.default_rng(0))
    assert alone.hierarchical_BCM is None


def test_the_interval_over_subjects_is_students_where_trials_say_all() -> None:
    rng = np.random.default_rng(3)
    subjects = [np.concatenate([rng.normal(m, 1, (100, 1, 1)), np.ones((100, 1, 6))], axis=-1) for m in rng.normal(50, 10, 12)]
    *_, total = rows(subjects, 4000, rng)
    means = [s[:, 0, 0].mean() for s in subjects]
    reference = stats.t.interval(0.95, 11, np.mean(means), stats.sem(means))
    found = [end[0, 0] for end in total.over_subjects()]
    np.testing.assert_allclose(found, reference, atol=0.06 * (reference[1] - reference[0]))


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    level_T1 = rng.normal(40, 10, (50, 1))
    scores_TC = np.hstack([level_T1 + 5, level_T1]) + rng.normal(0, 1, (50, 2))
    statistics_TCK = np.concatenate([scores_TC[..., None], np.ones((50, 2, 6))], axis=-1)
    row: Row = next(rows([statistics_TCK], 2000, rng)).first_less_others()
    difference = scores_TC[:, 0] - scores_TC[:, 1]
    low, high = (end[0, 0] for end in row.over_trials())
    assert high - low == pytest.approx(2 * 2.01 * difference.std(ddof=1) / np.sqrt(50), rel=0.1)
    d_z = effect_size([difference[:, None]])[0]
    assert d_z == pytest.approx(stats.ttest_1samp(difference, 0).statistic / np.sqrt(50))
    assert trials_won([np.array([[1.0], [0.0], [-2.0], [3.0]])])[0] == 62.5 and np.isnan(effect_size([np.zeros((4, 1))])[0])


def test_p_values_agree_with_exact_enumeration_and_scipy() -> None:
    rng = np.random.default_rng(7)
    n = 6
    pairs_PCK = np.concatenate([rng.normal(0, 1, (n * n, 2, 3)), np.ones((n * n, 2, 6))], axis=-1)
    pair_of = np.arange(n * n).reshape(n, n)
    pairs_PCK[np.diag(pair_of), 0, :3] += 1.0
    blocks = ["a", "b", "a", "a", "b", "a"]
    found = permuted_scores(pairs_PCK, pair_of, blocks, 20000, rng)
    difference_NM = (found[:, 0] - found[:, 1])[:, :3]
    # all 4! 2! pairings of references within instructions
    pairings = []
    for four, two in product(permutations([0, 2, 3, 5]), permutations([1, 4])):
        others = np.arange(n)
        others[[0, 2, 3, 5]], others[[1, 4]] = four, two
        pairings.append(
            [(pairs_PCK[pair_of[np.arange(n), others], 0, m] - pairs_PCK[pair_of[np.arange(n), others], 1, m]).mean() for m in range(3)]
        )
    exact_NM = np.array(pairings)
    tested = permutation_test(difference_NM)
    np.testing.assert_allclose(tested.statistic, exact_NM[0])
    np.testing.assert_allclose(tested.p, (exact_NM >= exact_NM[0] - 1e-9).mean(0), atol=0.012)
    np.testing.assert_allclose(tested.expected, exact_NM.mean(0), atol=0.01)
    largest = ((exact_NM - exact_NM.mean(0)) / exact_NM.std(0)).max(1)
    assert tested.any[1] == pytest.approx((largest >= largest[0] - 1e-9).mean(), abs=0.012)
    assert (tested.p_max >= tested.p).all() and tested.any[1] == tested.p_max.min()

    # one block: scipy permutes the references itself
    def statistic(others: np.ndarray) -> float:
        return float(pairs_PCK[pair_of[np.arange(n), others.astype(int)], 0, 0].mean())

    reference = stats.permutation_test((np.arange(n),), statistic, permutation_type="pairings", alternative="greater", n_resamples=np.inf)
    ours = permutation_test(permuted_scores(pairs_PCK, pair_of, ["a"] * n, 20000, rng)[:, 0, :1])
    assert ours.p[0] == pytest.approx(reference.pvalue, abs=0.012)


def test_a_score_that_no_permutation_changes_tells_nothing() -> None:
    # a constant text has the same score under each pairing, summed in another order
    constant_PCK = np.tile(np.random.default_rng(0).uniform(0, 50, 5), 5)[:, None, None].repeat(7, -1) + np.zeros((25, 1, 1))
    found = permuted_scores(constant_PCK, np.arange(25).reshape(5, 5), ["a"] * 5, 500, np.random.default_rng(1))
    tested = permutation_test(found[:, 0])
    assert (tested.p == 1).all() and (tested.p_max == 1).all() and tested.any[1] == 1
    cells = permutation_cells(
        np.concatenate([found, np.where(np.arange(3) == 0, np.nan, found)], axis=1), found, ["model", "llm"], ["x", "y", "z"], 0.05
    )
    assert {c["metric"] for c in cells} == {"y", "z", "any"}, "a metric that a row does not have is not tested"


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    gc.freeze()  # it collects garbage in each call
    np.testing.assert_allclose(holm(np.array(p)), multipletests(p, method="holm")[1])


def test_a_table_claims_nothing_where_nothing_is_and_finds_what_is() -> None:
    """A quick version of `python -m benchmarks.coverage`, whose figures stand in docs/statistics.md."""
    claims = pd.DataFrame([summary(one_table(2, 30, s, n_permutations=400, advantage=2.0, information=0.0)) for s in range(40)])
    for name in ("any null beaten", "alarm"):
        assert stats.binomtest(int(claims[name].sum()), len(claims), 0.05, alternative="greater").pvalue > 1e-3, name
    planted = [summary(one_table(2, 30, s, n_permutations=400, advantage=0.0, information=1.5)) for s in range(3)]
    assert np.mean([p["all nulls beaten"] for p in planted]) >= 0.6
    worse = [summary(one_table(2, 30, s, n_permutations=400, advantage=-4.0, information=1.5)) for s in range(2)]
    assert not any(w["any null beaten"] for w in worse), "a model that knows the clip and scores lower beats nothing"


def test_intervals_over_subjects_hold_the_truth_where_plain_ones_do_not() -> None:
    rng = np.random.default_rng(5)
    found = [one_coverage(2, 48, 3.0, 300, rng) for _ in range(120)]
    for kind in ("trials", "subjects"):
        held = sum(getattr(f, kind)[0] for f in found)
        assert stats.binomtest(held, len(found), 0.95).pvalue > 1e-3, (kind, held)
    assert sum(f.plain[0] for f in found) < 0.85 * len(found)
