"""Tables: every number recomputed another way; published values, the paper's two errors, verdicts, alarms and warnings in place."""

import json
import logging
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sacrebleu.metrics import BLEU

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.data.reasons import BROKEN, UNDESCRIBED
from boldscribe.data.trials import EXCLUDED_TYPES
from boldscribe.descriptions import CAPTIONS, DESCRIPTIONS
from boldscribe.evaluation.published import PRINTED, PUBLISHED, RECOMPUTED, published_scores
from boldscribe.evaluation.score_tables import LEFT_OUT
from boldscribe.evaluation.statistics import metrics_of
from boldscribe.evaluation.tables import make_tables
from boldscribe.evaluation.typeset import columns_of
from boldscribe.evaluation.verdicts import p_text
from boldscribe.machinery.errors import UserError
from tests.as_step import as_step
from tests.scored import write_scored

CONTROLS = ["llm", "noise", "shuffled", "trueclass"]
SIZES = {"05": 30, "06": 20}
SUFFIXES = {"csv": "", "differences": "_differences", "tests": "_tests", "left_out": "_left_out"}


def _config(simulated: bool = True, table: int = 1, controls: list[str] = CONTROLS, seed: int = 1) -> Config:
    dataset = {
        "title": "HAD & co",
        "table": table,
        "train_subjects": ["01"],
        "validation_subjects": ["05", "06"],
        "adaptation_runs": ["01"],
        "test_runs": ["02"],
        "simulated": {} if simulated else None,
    }
    evaluation = {"bootstrap_samples": 500, "permutations": 999}
    raw = {"datasets": {"had": dataset}, "evaluation": evaluation, "decoding": {"controls": controls}, "seed": seed}
    return Config.model_validate(raw)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_scored(tmp_path_factory.mktemp("scores"), ["model", *CONTROLS], SIZES)


def _make(config: Config, scored: tuple[Path, Path], folder: Path, references: str = CAPTIONS) -> dict[str, Path]:
    outputs = {name: folder / f"had{suffix}.csv" for name, suffix in SUFFIXES.items()} | {e: folder / f"had.{e}" for e in ("md", "tex")}
    labels = folder / "labels.parquet"
    clips = {"01": ["a.mp4", "b.mp4"], "05": ["a.mp4"] * 30, "06": [f"{i}.mp4" for i in range(20)]}
    tables = [pd.DataFrame({"subject": s, "trial": range(len(c)), "stim_file": c, "source": c}) for s, c in clips.items()]
    pd.concat(tables).to_parquet(labels)
    left_out = pd.DataFrame([["06", "01", 20, "test", BROKEN, "frames: found 3, expected 60"]], columns=list(EXCLUDED_TYPES))
    left_out.to_parquet(folder / "excluded.parquet")
    files = {"scores": [scored[0]], "pairs": [scored[1]], "labels": [labels], "excluded": [folder / "excluded.parquet"]}
    make_tables(config, "had", references, **files, **outputs)
    return outputs


@pytest.fixture(scope="module")
def tables(scored: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _make(_config(), scored, tmp_path_factory.mktemp("tables"))


def _value(table: pd.DataFrame, column: str = "value", **where: str) -> float:
    chosen = table
    for name, wanted in where.items():
        chosen = chosen[chosen[name] == wanted]
    assert len(chosen) == 1, where
    return float(chosen[column].iloc[0])


def test_every_value_is_what_the_scores_say(tables: dict[str, Path], scored: tuple[Path, Path]) -> None:
    table = pd.read_csv(tables["csv"], dtype={"subject": str})
    raw = pd.read_parquet(scored[0])
    metrics = metrics_of(raw.columns)
    for condition in ("model", *CONTROLS):
        by_row = {}
        for row, subject in (("Subject-1", "05"), ("Subject-2", "06")):
            own = raw[(raw["subject"] == subject) & (raw["condition"] == condition)]
            texts = own["prediction"].tolist(), [own["reference"].tolist()]
            corpus = {f"sacrebleu_{n}": BLEU(max_ngram_order=n).corpus_score(*texts).score for n in (1, 2)}
            by_row[row] = {m: corpus[m] if m in corpus else own[m.removesuffix("_sentence")].mean() for m in metrics}
        by_row["Total"] = {m: (by_row["Subject-1"][m] + by_row["Subject-2"][m]) / 2 for m in metrics}
        for row, expected in by_row.items():
            for metric in metrics:
                found = _value(table, row=row, condition=condition, metric=metric)
                assert found == pytest.approx(expected[metric], abs=1e-4, nan_ok=True), (row, metric)
    measured = table[table["condition"].isin(CONDITIONS) & table["value"].notna()]
    for low, high in (("low", "high"), ("low_trials", "high_trials")):
        assert ((measured[low] <= measured["value"]) & (measured["value"] <= measured[high])).all()
    assert ((measured["low"] <= measured["low_trials"]) & (measured["high"] >= measured["high_trials"])).all()
    assert set(measured.loc[measured["row"] == "Total", "n_trials"]) == {50}
    assert _value(table, row="Subject-2", condition="chance", metric="identification") == pytest.approx(100 / 20, abs=1e-4)
    assert _value(table, row="Total", condition="chance", metric="identification_10way") == 10
    assert "identification_180way" not in columns_of(table), "a score that no subject can have is no column"


def test_the_model_beats_null_controls_and_a_control_by_less(tables: dict[str, Path]) -> None:
    tests, differences = pd.read_csv(tables["tests"]), pd.read_csv(tables["differences"])
    overall = tests[(tests["row"] == "Total") & (tests["metric"] == "any")].set_index(["condition", "against"])
    nulls = [("model", c) for c in ("llm", "noise", "shuffled")]
    assert overall["beats"][nulls].all() and set(overall["p_holm"][nulls].round(9)) == {0.003} and overall["p"]["model", "chance"] == 0.001
    assert overall["p_holm"]["model", "chance"] == overall["p"]["model", "chance"], "the model against chance is one test"
    assert not overall["beats"][[(c, "chance") for _, c in nulls]].any() and overall["beats"]["trueclass", "chance"]
    assert overall["p_holm"]["model", "trueclass"] == 2 * overall["p"]["model", "trueclass"], "others are a family, in both directions"
    assert overall["beats"]["model", "trueclass"] and not overall["beats"]["trueclass", "model"]
    single = tests[(tests["metric"] != "any") & (tests["condition"] == "model") & (tests["against"] != "chance")]
    assert (single["detectable"].notna() == (single["kind"] == "control")).all()
    single = single.set_index(["row", "against", "metric"])
    lows = differences.set_index(["row", "control", "metric"])["low_trials"].reindex(single.index.set_names(["row", "control", "metric"]))
    higher = (lows.to_numpy() > 0) | (single["kind"] != "null control")
    assert (single["beats"] == (single["p_holm"] < 0.05) & higher).all() and single["beats"].nunique() == 2
    assert (
        (tests["p_holm"] >= tests["p_max"] - 1e-9).all() and (tests["p_max"] >= tests["p"] - 1e-9).all() and (tests["p"] >= 1 / 1000).all()
    )
    # under the true pairing, the statistic is the difference of the tables
    joined = single.join(differences.rename(columns={"control": "against"}).set_index(["row", "against", "metric"])["difference"])
    np.testing.assert_allclose(joined["statistic"], joined["difference"], atol=1e-3)


def test_differences_are_paired_and_judged(tables: dict[str, Path], scored: tuple[Path, Path]) -> None:
    table = pd.read_csv(tables["differences"])
    raw = pd.read_parquet(scored[0]).set_index(["subject", "condition", "trial"])["bertscore"].sort_index()
    paired = raw["05", "model"] - raw["05", "llm"]
    cell = {"row": "Subject-1", "control": "llm", "metric": "bertscore"}
    assert _value(table, "difference", **cell) == pytest.approx(paired.mean(), abs=1e-4)
    # the trials' own spread is common to both conditions: a paired interval is far narrower than an unpaired one
    width = _value(table, "high", **cell) - _value(table, "low", **cell)
    assert width == pytest.approx(2 * 2.05 * paired.std() / np.sqrt(30), rel=0.2)
    assert _value(table, "effect_size", **cell) == pytest.approx(paired.mean() / paired.std(), abs=1e-4)
    assert _value(table, "trials_won", **cell) == pytest.approx(100 * (paired > 0).mean(), abs=1e-4)
    given = table[table["low"].notna()]
    assert (given["excludes_zero"] == ((given["low"] > 0) | (given["high"] < 0))).all()


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


def test_the_page_says_what_it_is(tables: dict[str, Path], scored: tuple[Path, Path], tmp_path: Path) -> None:
    md = tables["md"].read_text()
    assert md.splitlines()[0] == "# Table 1. HAD & co: SIMULATED BOLD"
    assert "not comparable" in md and "copy of Table 2" in md and "66.10†" in md and "53.27" in md and "54.48" in md and "35.76" in md
    assert "The clips of 30 of the 50 test trials were shown to source subjects too" in md
    assert "Of the 51 trials of target subjects 1 are left out: 1 (clip cannot be decoded)." in md
    assert pd.read_csv(tables["left_out"]).loc[0, "detail"] == "frames: found 3, expected 60"
    assert "The model tells trials apart" in md and "The model beats 3 of 3 null controls (largest p after Holm 0.003" in md
    assert "ALARM" not in md and "bertscore: layer:6|raw_50%." in md
    assert "LLM without brain: the same prompt, without fMRI tokens" in md and "description in the data: " not in md
    assert "; description in the data. `decoding: {controls: all}` adds them; the demo has them by `make demo-full`." in md
    value = pd.read_csv(tables["csv"]).query("row == 'Subject-1' and condition == 'noise' and metric == 'bertscore'").iloc[0]
    [line] = re.findall(r"\| noise at test .*", md.partition("## Subject-1")[2].partition("### ")[0])
    assert f"| {value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] |" in line
    assert not re.search(r"\| 0(\.0+)? \|$", md, re.MULTILINE) and p_text(1e-7) == "1e-07", "no p is shown as 0"
    config = _config(simulated=False, table=2, controls=[*CONTROLS, "human"])
    measured = _make(config, scored, tmp_path)["md"].read_text()
    assert (
        "SIMULATED" not in measured
        and "make demo-full" not in measured
        and "not comparable" not in measured
        and "54.47†" in measured
        and measured.count("66.10†") == 0
    )
    assert "impossible here: description in the data (the data set has no descriptions of its clips" in measured


def test_a_table_against_people_names_them_and_has_no_published_value(scored: tuple[Path, Path], tmp_path: Path) -> None:
    """The same scores, one trial of which has no sentence, with a file of one sentence for each clip."""
    texts, trial = tmp_path / "texts.tsv", ["06", 19]
    texts.write_text("stimulus\tdescription\na\tA girl jumps.\n")
    config = _config(simulated=False, controls=[*CONTROLS, "human"])
    design = config.datasets["had"].model_copy(update={"description_file": str(texts)})
    config = as_step(config.model_copy(update={"datasets": {"had": design}}), "tables", dataset="had", references=DESCRIPTIONS)
    without = tmp_path / "scores.parquet", tmp_path / "pairs.parquet"
    for path, made in zip(without, scored, strict=True):
        table = pq.read_table(made)
        of_trial = (table["subject"].to_pandas() == trial[0]) & (table["trial"].to_pandas() == trial[1])
        if "other" in table.column_names:
            of_trial |= (table["subject"].to_pandas() == trial[0]) & (table["other"].to_pandas() == trial[1])
        table = table.filter((~of_trial).to_numpy())
        told = [{"subject": trial[0], "trial": trial[1], "role": "test", "reason": UNDESCRIBED, "detail": "19.mp4"}]
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, LEFT_OUT: json.dumps(told).encode()}), path)
    outputs = _make(config, without, tmp_path, DESCRIPTIONS)
    md, tex = outputs["md"].read_text(), outputs["tex"].read_text()
    assert md.splitlines()[0] == "# Table 1. HAD & co: measured BOLD, scored against sentences that people wrote"
    assert (
        f"The references are sentences that people wrote ({texts}), one drawn for each clip" in md
        and r"\label{tab:had_descriptions}" in tex
    )
    assert "its scores and these are not comparable, and none is shown" in md and "the sentences of their own clips" in md
    assert not pd.read_csv(outputs["csv"])["condition"].str.contains("published").any() and "published" not in md + tex
    assert "impossible here: description in the data (1 of 1 clips have one description only, which is the reference)" in md
    assert "Of the 51 trials of target subjects 2 are left out: 1 (clip cannot be decoded), 1 (" in md
    assert pd.read_csv(outputs["left_out"])["detail"].tolist() == ["frames: found 3, expected 60", "19.mp4"]
    assert "captions are captions" not in md and set(pd.read_csv(outputs["csv"]).query("row == 'Total'")["n_trials"].dropna()) == {49}


def test_latex(tables: dict[str, Path], tmp_path: Path) -> None:
    tex = tables["tex"].read_text()
    assert r"HAD \& co: SIMULATED BOLD" in tex and r"66.10$^\dagger$" in tex and r"raw\_50\%" in tex and tex.count("{") == tex.count("}")
    for table in re.findall(r"\\begin{tabular}.*?\\end{tabular}", tex, re.DOTALL):
        lines = [line for line in table.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({line.count(" & ") for line in lines}) == 1 and len(lines) > 5
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    packages = "".join(rf"\usepackage{{{p}}}" for p in ("booktabs", "graphicx", "rotating"))
    (tmp_path / "page.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}" + tex + r"\end{document}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "page"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Overfull" not in done.stdout and "too large" not in done.stdout, done.stdout[-2000:]


def test_a_null_control_that_knows_the_clip_raises_an_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaking = write_scored(tmp_path, ["model", *CONTROLS], SIZES, shuffled=15.0, model=0.0)
    with caplog.at_level(logging.WARNING):
        outputs = _make(_config(), leaking, tmp_path)
    [alarm] = [r.message for r in caplog.records if "ALARM" in r.message]
    assert "the null control 'shuffled trials' tells trials apart (p = 0.003 after Holm)" in alarm
    md, tex = outputs["md"].read_text(), outputs["tex"].read_text()
    assert md.splitlines()[2].startswith("- **ALARM: the null control 'shuffled trials'") and "ALARM" in tex
    assert "The model does not tell trials apart" in md and "beats 0 of 3 null controls; it does not beat LLM without brain (p = " in md
    noted = pd.read_csv(outputs["csv"]).query("note.str.startswith('ALARM') and row == 'Total'")
    assert set(noted["condition"]) == {"shuffled"}
    flagged = pd.read_csv(outputs["tests"]).query(
        "against == 'chance' and kind == 'null control' and row == 'Total' and metric == 'any' and beats"
    )
    assert flagged["condition"].tolist() == ["shuffled"]


def test_same_scores_give_the_same_bytes_in_any_order(tables: dict[str, Path], scored: tuple[Path, Path], tmp_path: Path) -> None:
    shuffled = []
    for path in scored:
        again = tmp_path / path.name
        table = pq.read_table(path)
        pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), again)
        shuffled.append(again)
    folder = tmp_path / "again"
    folder.mkdir()
    made = _make(_config(), (shuffled[0], shuffled[1]), folder)
    assert [p.read_bytes() for p in made.values()] == [p.read_bytes() for p in tables.values()]


def test_scores_that_do_not_fit_are_refused(scored: tuple[Path, Path], tmp_path: Path) -> None:
    def changed(scores: pd.DataFrame | None = None, pairs: pd.DataFrame | None = None) -> tuple[Path, Path]:
        """Files of scores and of pairs, one of them changed."""
        paths = tmp_path / "scores.parquet", tmp_path / "pairs.parquet"
        for path, table, made in zip(paths, (scores, pairs), scored, strict=True):
            shutil.copy(made, path) if table is None else table.to_parquet(path)
        return paths

    scores, pairs = map(pd.read_parquet, scored)
    of_llm = (scores["subject"] == "05") & (scores["condition"] == "llm")
    with pytest.raises(UserError, match="no scores of sub-05, condition llm"):
        _make(_config(), changed(scores[~of_llm]), tmp_path)
    with pytest.raises(UserError, match=r"subject\(s\) 05 appear twice"):
        _make(_config(), changed(pd.concat([scores, scores[of_llm]])), tmp_path)
    with pytest.raises(UserError, match="sub-05: trials or references of condition llm differ"):
        _make(_config(), changed(scores.drop(scores.index[of_llm][0])), tmp_path)
    with pytest.raises(UserError, match=r"sub-06: found \d+ pairs, expected \d+"):
        _make(_config(), changed(pairs=pairs.drop(pairs.index[pairs["subject"] == "06"][3])), tmp_path)
    with pytest.raises(UserError, match="own references differ from the table of scores"):
        _make(_config(), changed(pairs=pairs.assign(cider=pairs["cider"] + 1)), tmp_path)
    with pytest.raises(UserError, match="found no signatures of the metrics"):
        _make(_config(), changed(scores), tmp_path)
    assert not (tmp_path / "had.csv").exists()


def test_a_table_without_controls(scored: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = _make(_config(controls=[]), scored, tmp_path)
    assert pd.read_csv(outputs["differences"]).empty and "Model minus control" not in outputs["md"].read_text()
    assert set(pd.read_csv(outputs["tests"])["against"]) == {"chance"}
