"""Retrieval: known answers, ties, the permutation test against scipy's and under no effect, and the step as a whole."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, permutation_test

from boldscribe.config import Config
from boldscribe.evaluation.retrieval import (
    COLUMNS,
    METRICS,
    Retrieved,
    chance,
    mean_scores,
    permutation_p,
    permuted_scores,
    write_retrieval,
)
from boldscribe.machinery.errors import UserError

RNG = np.random.default_rng


def test_an_encoder_that_knows_every_clip_retrieves_it_and_one_that_knows_none_is_exactly_at_chance() -> None:
    own = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 0])  # two clips are shown twice
    perfect = permuted_scores(np.eye(8)[own], own, 999, RNG(0))
    np.testing.assert_allclose(perfect.value_M, [100, 100, 100, 1, 1])
    assert permutation_p(perfect)[[0, 2, 3]] == pytest.approx(0.001) and perfect.n_candidates == 8
    for similarity in (np.ones((10, 8)), np.ones((10, 8)) + RNG(0).normal(0, 1e-9, (10, 8))):
        blind = permuted_scores(similarity, own, 99, RNG(0))
        np.testing.assert_allclose(blind.value_M, chance(8))
        assert (permutation_p(blind) == 1).all(), "what ties says nothing"


def test_scores_are_those_of_sorting() -> None:
    similarity, own = RNG(1).normal(size=(30, 12)), RNG(2).integers(12, size=30)
    places = np.array([1 + np.argsort(-row).tolist().index(true) for row, true in zip(similarity, own, strict=True)])
    expected = [100 * np.mean(places == 1), 100 * np.mean(places <= 5), 100 * np.mean((12 - places) / 11), places.mean(), np.median(places)]
    np.testing.assert_allclose(Retrieved(similarity).scores(own[None])[0], expected)
    np.testing.assert_allclose(Retrieved(np.ones((4, 1))).scores(np.zeros((1, 4), int))[0], [100, 100, 50, 1, 1])


def test_p_values_are_those_of_scipy() -> None:
    own = np.repeat(np.arange(6), 2)
    similarity = 0.7 * np.eye(6)[own] + RNG(3).normal(size=(12, 6))
    ours = permutation_p(permuted_scores(similarity, own, 4000, RNG(4)))
    retrieved = Retrieved(similarity)
    for i, metric in enumerate(METRICS):
        theirs = permutation_test(
            (own,),
            lambda x, i=i: retrieved.scores(np.asarray(x).astype(int)[None])[0, i],
            permutation_type="pairings",
            alternative="less" if metric.endswith("rank") else "greater",
            n_resamples=4000,
            rng=5,
            vectorized=False,
        )
        assert ours[i] == pytest.approx(theirs.pvalue, abs=4 * np.sqrt(0.25 / 4000) + 1e-3), metric
    assert 0.001 < ours[2] < 0.5


def test_nothing_is_found_where_nothing_is() -> None:
    rng, n = RNG(6), 300
    own = np.arange(15)
    p = np.array([permutation_p(permuted_scores(rng.normal(size=(15, 15)), own, 99, rng)) for _ in range(n)])
    false_positives = (p[:, [2, 3]] <= 0.05).sum(0)
    assert (false_positives <= binom.ppf(0.999, n, 0.05)).all() and (false_positives >= binom.ppf(0.001, n, 0.05)).all()


def test_the_total_is_the_mean_of_subjects_permuted_independently() -> None:
    one, two = (permuted_scores(RNG(s).normal(size=(10, n)), np.arange(10) % n, 500, RNG(s)) for s, n in ((7, 10), (8, 5)))
    total = mean_scores([one, two])
    np.testing.assert_allclose(total.value_M, (one.value_M + two.value_M) / 2)
    np.testing.assert_allclose(total.chance_M, (chance(10) + chance(5)) / 2)
    assert total.n_candidates is None
    assert total.permuted_BM[:, 2].var() == pytest.approx((one.permuted_BM[:, 2].var() + two.permuted_BM[:, 2].var()) / 4, rel=0.25)


@pytest.fixture
def written(tiny: Config, data: SimpleNamespace, tokens: dict[str, Path], tmp_path: Path) -> SimpleNamespace:
    """What the step is handed: the tiny encoder's tokens under their name in the workflow, and where it writes."""
    named = tmp_path / "encoder-model_data-fmri_role-test_tokens.npy"
    for suffix in (".npy", ".json"):
        named.with_suffix(suffix).write_bytes(tokens["test"].with_suffix(suffix).read_bytes())
    given = {"tokens": [named], "labels": data.labels[2:], "features": data.features}
    return SimpleNamespace(given=given, csv=tmp_path / "had.csv")


def test_the_step_writes_each_encoder_subject_and_metric(tiny: Config, written: SimpleNamespace) -> None:
    write_retrieval(tiny, "had", **written.given, csv=written.csv)
    table = pd.read_csv(written.csv, dtype={"subject": str})
    assert list(table.columns) == COLUMNS
    assert table["row"].tolist() == ["Subject-1"] * 5 + ["Total"] * 5 and table["metric"].tolist() == 2 * list(METRICS)
    assert (table["n_candidates"] == 6).all() and table["p"].between(0, 1, inclusive="right").all() and set(table["encoder"]) == {"model"}
    np.testing.assert_allclose(table["value"][:5], table["value"][5:], err_msg="one subject is the total")
    first = written.csv.read_bytes()
    write_retrieval(tiny, "had", **written.given, csv=written.csv)
    assert written.csv.read_bytes() == first


def test_trials_without_label_are_refused(tiny: Config, data: SimpleNamespace, written: SimpleNamespace, tmp_path: Path) -> None:
    fewer = tmp_path / "sub-03_labels.parquet"
    pd.read_parquet(data.labels[2]).iloc[:-1].to_parquet(fewer)
    with pytest.raises(UserError, match="1 of them without a label, expected labelled trials of 03"):
        write_retrieval(tiny, "had", **{**written.given, "labels": [fewer]}, csv=written.csv)
    assert not written.csv.exists()
