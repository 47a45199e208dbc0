"""Tables and intervals: every number recomputed another way; published values, the paper's two errors, and the warnings in place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics import BLEU
from scipy import stats

from boldscribe.bold.reasons import BROKEN
from boldscribe.bold.trials import EXCLUDED_TYPES
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation.bleu import sentence_bleu
from boldscribe.evaluation.published import PRINTED, PUBLISHED, RECOMPUTED, published_scores
from boldscribe.evaluation.statistics import METRICS, estimate, resamples, total, trial_statistics
from boldscribe.evaluation.tables import make_tables

WORDS = ["man", "dog", "ball", "runs", "jumps", "red", "park", "blue"]
CONDITIONS = ["model", "llm", "shuffled", "noise"]


def _scores(subject: str, condition: str, n: int = 30) -> pd.DataFrame:
    """Per-trial scores of random texts; the model's BERTScore is 5 above that of its controls."""
    rng = np.random.default_rng(sum(map(ord, subject + condition)))
    of_trials = np.random.default_rng(int(subject)).normal(40, 10, n)
    references = [" ".join(np.random.default_rng([int(subject), t]).choice(WORDS, 5)) for t in range(n)]
    predictions = [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]
    table = pd.DataFrame(
        {
            "subject": subject,
            "trial": range(n),
            "condition": condition,
            "prediction": predictions,
            "reference": references,
            "bertscore": of_trials + 5 * (condition == "model") + rng.normal(0, 1, n),
            "rouge_l_f": rng.uniform(0, 100, n),
            "rouge_l_p": rng.uniform(0, 100, n),
            "rouge_l_r": rng.uniform(0, 100, n),
            "identification": rng.integers(0, 2, n).astype(float),
            "identification_2way": rng.uniform(0, 1, n),
        }
    )
    table[["sacrebleu_1", "sacrebleu_2"]] = sentence_bleu(predictions, references)[["sacrebleu_1", "sacrebleu_2"]]
    return table


def _config(simulated: bool = True, table: int = 1, conditions: list[str] = CONDITIONS) -> Config:
    dataset = {
        "title": "HAD & co",
        "table": table,
        "train_subjects": ["01"],
        "validation_subjects": ["05", "06"],
        "adaptation_runs": ["01"],
        "test_runs": ["02"],
        "simulated": {} if simulated else None,
    }
    return Config.model_validate(
        {"datasets": {"had": dataset}, "evaluation": {"bootstrap_samples": 500}, "decoding": {"controls": conditions[1:]}}
    )


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scores")
    paths = [folder / f"sub-{s}_condition-{c}.parquet" for s in ("05", "06") for c in CONDITIONS]
    for path in paths:
        subject, condition = path.stem.removeprefix("sub-").split("_condition-")
        _scores(subject, condition, n=30 if subject == "05" else 20).to_parquet(path)
    return paths


def _make(config: Config, scores: list[Path], folder: Path) -> dict[str, Path]:
    suffixes = {"csv": ".csv", "md": ".md", "tex": ".tex", "differences": "_differences.csv", "left_out": "_left_out.csv"}
    outputs = {name: folder / f"had{suffix}" for name, suffix in suffixes.items()}
    labels = folder / "labels.parquet"
    clips = {"01": ["a.mp4", "b.mp4"], "05": ["a.mp4"] * 30, "06": [f"{i}.mp4" for i in range(20)]}
    tables = [pd.DataFrame({"subject": s, "trial": range(len(c)), "stim_file": c, "source": c}) for s, c in clips.items()]
    pd.concat(tables).to_parquet(labels)
    left_out = pd.DataFrame([["06", "01", 20, "test", BROKEN, "frames: found 3, expected 60"]], columns=list(EXCLUDED_TYPES))
    left_out.to_parquet(folder / "excluded.parquet")
    make_tables(config, "had", scores=scores, labels=[labels], excluded=[folder / "excluded.parquet"], **outputs)
    return outputs


@pytest.fixture(scope="module")
def tables(scores: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _make(_config(), scores, tmp_path_factory.mktemp("tables"))


def _value(table: pd.DataFrame, column: str = "value", **where: str) -> float:
    chosen = table
    for name, wanted in where.items():
        chosen = chosen[chosen[name] == wanted]
    assert len(chosen) == 1, where
    return float(chosen[column].iloc[0])


def test_every_value_is_what_the_scores_say(tables: dict[str, Path], scores: list[Path]) -> None:
    table = pd.read_csv(tables["csv"], dtype={"subject": str})
    raw = pd.concat(map(pd.read_parquet, scores))
    for condition in CONDITIONS:
        by_row = {}
        for row, subject in (("Subject-1", "05"), ("Subject-2", "06")):
            own = raw[(raw["subject"] == subject) & (raw["condition"] == condition)]
            corpus = {
                f"sacrebleu_{n}": BLEU(max_ngram_order=n).corpus_score(own["prediction"].tolist(), [own["reference"].tolist()]).score
                for n in (1, 2)
            }
            by_row[row] = {
                **{m: own[m].mean() for m in ("bertscore", "rouge_l_f", "rouge_l_p", "rouge_l_r")},
                **corpus,
                **{f"{m}_sentence": own[m].mean() for m in corpus},
                **{m: 100 * own[m].mean() for m in ("identification", "identification_2way")},
            }
        by_row["Total"] = {m: (by_row["Subject-1"][m] + by_row["Subject-2"][m]) / 2 for m in METRICS}
        for row, expected in by_row.items():
            for metric in METRICS:
                found = _value(table, row=row, condition=condition, metric=metric)
                assert found == pytest.approx(expected[metric], abs=1e-4), (row, metric)
    measured = table[table["condition"].isin(CONDITIONS)]
    assert ((measured["low"] <= measured["value"]) & (measured["value"] <= measured["high"])).all()
    assert set(measured.loc[measured["row"] == "Total", "n_trials"]) == {50}
    distinct = raw.groupby("subject")["reference"].nunique()
    assert _value(table, row="Subject-2", condition="chance", metric="identification") == pytest.approx(100 / distinct["06"], abs=1e-4)


def test_differences_are_paired_and_judged(tables: dict[str, Path], scores: list[Path]) -> None:
    table = pd.read_csv(tables["differences"])
    raw = pd.concat(map(pd.read_parquet, scores)).set_index(["subject", "condition", "trial"])["bertscore"]
    raw = raw.sort_index()
    paired = raw["05", "model"] - raw["05", "llm"]
    cell = {"row": "Subject-1", "control": "llm", "metric": "bertscore"}
    assert _value(table, "difference", **cell) == pytest.approx(paired.mean(), abs=1e-4)
    # the trials' own spread (SD 10) is common to both conditions: a paired interval is far narrower than an unpaired one
    width = _value(table, "high", **cell) - _value(table, "low", **cell)
    assert width == pytest.approx(2 * 1.96 * paired.std() / np.sqrt(30), rel=0.2)
    assert table[(table["metric"] == "bertscore")]["excludes_zero"].all()
    assert (table["excludes_zero"] == ((table["low"] > 0) | (table["high"] < 0))).all()


def test_intervals_agree_with_scipy() -> None:
    subjects = [trial_statistics(_scores(s, "model", n)) for s, n in (("05", 40), ("06", 25))]
    rng = np.random.default_rng(1)
    estimates = [estimate(s, resamples(len(s), 20000, rng)) for s in subjects]

    def mean_of_means(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([s.mean(axis) for s in samples], axis=0)

    for ours, samples in ((estimates[0], subjects[:1]), (total(estimates), subjects)):
        for metric in ("bertscore", "rouge_l_p"):
            column = {"bertscore": 0, "rouge_l_p": 2}[metric]
            reference = stats.bootstrap(
                [s[:, column] for s in samples], mean_of_means, n_resamples=20000, method="percentile", rng=2
            ).confidence_interval
            found = [end[METRICS.index(metric)] for end in ours.interval()]
            np.testing.assert_allclose(found, reference, atol=0.05 * (reference.high - reference.low))


def test_corpus_bleu_of_a_resample_is_that_of_the_resampled_texts() -> None:
    scores = _scores("05", "model", 12)
    drawn = resamples(12, 3, np.random.default_rng(0))
    assert (drawn.sum(1) == 12).all()
    again = scores.loc[np.repeat(np.arange(12), drawn[2])]
    expected = BLEU(max_ngram_order=2).corpus_score(again["prediction"].tolist(), [again["reference"].tolist()]).score
    assert estimate(trial_statistics(scores), drawn).resampled[2, METRICS.index("sacrebleu_2")] == pytest.approx(expected)


def test_published_values_and_the_papers_errors() -> None:
    had, urgen = published_scores(1), published_scores(2)
    assert _value(had, row="Subject-3", condition=PUBLISHED, metric="rouge_l_p") == 36.61
    means = {
        "bertscore": 53.2675,
        "sacrebleu_1": 33.9075,
        "sacrebleu_2": 22.9425,
        "rouge_l_f": 34.21,
        "rouge_l_p": 35.755,
        "rouge_l_r": 38.92,
    }
    for metric, mean in means.items():
        assert _value(had, row="Total", condition=RECOMPUTED, metric=metric) == pytest.approx(mean)
    assert (had[had["condition"] == PRINTED]["note"] != "").all(), "all of Table 1's printed totals are wrong"
    wrong = urgen[urgen["note"] != ""]
    assert wrong[["condition", "metric", "value"]].to_numpy().tolist() == [[PRINTED, "rouge_l_p", 54.47]]
    assert _value(urgen, row="Total", condition=RECOMPUTED, metric="rouge_l_p") == pytest.approx(56.225)
    assert published_scores(3).empty


def test_the_pages_say_what_they_are(tables: dict[str, Path], scores: list[Path], tmp_path: Path) -> None:
    md, tex = tables["md"].read_text(), tables["tex"].read_text()
    assert md.splitlines()[0] == "# Table 1. HAD & co: SIMULATED BOLD"
    assert "not comparable" in md and "copy of Table 2" in md and "66.10†" in md and "53.27" in md and "54.48" in md and "35.76" in md
    assert "The clips of 30 of the 50 test trials were shown to source subjects too" in md
    assert "Of the 51 trials of target subjects 1 are left out: 1 (clip cannot be decoded)." in md
    assert pd.read_csv(tables["left_out"]).loc[0, "detail"] == "frames: found 3, expected 60"
    of_total = pd.read_csv(tables["differences"]).query("row == 'Total' and control == 'llm' and not metric.str.endswith('sentence')")
    assert f"Against LLM without brain, the model is better in {(of_total['low'] > 0).sum()} and worse in" in md and len(of_total) == 8
    body = [line for line in md.splitlines() if line.startswith("| Subject-1 | noise") or line.startswith("| **Subject-1** | **model**")]
    value = pd.read_csv(tables["csv"]).query("row == 'Subject-1' and condition == 'noise' and metric == 'bertscore'").iloc[0]
    assert f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]" in body[1]
    assert r"HAD \& co: SIMULATED BOLD" in tex and r"66.10$^\dagger$" in tex and tex.count("{") == tex.count("}")
    assert len({line.count(" & ") for line in tex.splitlines() if line.endswith(r"\\")}) == 1
    measured = _make(_config(simulated=False, table=2), scores, tmp_path)["md"].read_text()
    assert "SIMULATED" not in measured and "not comparable" not in measured and "54.47†" in measured and measured.count("66.10†") == 0


def test_same_scores_give_the_same_bytes_in_any_order(tables: dict[str, Path], scores: list[Path], tmp_path: Path) -> None:
    again = _make(_config(), scores[::-1], tmp_path)
    assert [p.read_bytes() for p in again.values()] == [p.read_bytes() for p in tables.values()]


def test_scores_that_do_not_fit_are_refused(scores: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no score of sub-06, condition noise"):
        _make(_config(), scores[:-1], tmp_path)
    with pytest.raises(UserError, match="given twice"):
        _make(_config(), [*scores, scores[0]], tmp_path)
    short = tmp_path / scores[1].name
    pd.read_parquet(scores[1])[:-1].to_parquet(short)
    with pytest.raises(UserError, match="sub-05: condition llm has other trials"):
        _make(_config(), [scores[0], short, *scores[2:]], tmp_path)
    assert not (tmp_path / "had.csv").exists()


def test_a_table_without_controls(scores: list[Path], tmp_path: Path) -> None:
    outputs = _make(_config(conditions=["model"]), scores, tmp_path)
    assert pd.read_csv(outputs["differences"]).empty and "Model minus control" not in outputs["md"].read_text()
