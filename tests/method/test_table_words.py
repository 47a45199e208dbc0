"""Words around a table: models by the names of what was loaded, alarms that are due, chance as style earns it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from boldscribe.config import Config
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.notes import EXPECTED, origin, references, title
from boldscribe.evaluation.published import published_scores
from boldscribe.evaluation.score_tables import WARNINGS
from boldscribe.evaluation.verdicts import alarms, verdicts
from boldscribe.report.plots import identification_curve
from boldscribe.report.scoreboard import groups
from tests.method.test_tables import SIZES, _config, _make
from tests.scored import write_scored

EMBEDDED = {"llm": "embedded", "visual_encoder": "embedded", "connectors": "boldscribe/models/weights/connectors.safetensors"}
MINIATURE = "a miniature video model (EfficientNet-Lite0, SmolLM2-135M-Instruct, and connectors trained on 2,500 rendered clips)"
OTHER = {"kind": "video_text", "model": "m", "hub_name": "lab/model", "revision": "0" * 40}


def lab(captioner: dict[str, Any] | None = None, table: int | None = None, simulated: bool = False, **video_llama: str) -> Config:
    """An experiment on one data set of one's own."""
    dataset = {"title": "Lab", "simulated": {} if simulated else None, **({} if table is None else {"table": table})}
    raw = {"datasets": {"had": None, "urgen": None, "lab": dataset}, "video_llama": video_llama, "captioner": captioner or {}}
    return Config.model_validate(raw)


@pytest.mark.parametrize(
    ("config", "words", "comparable"),
    [
        (lab(**EMBEDDED), f"captions by {MINIATURE}; fMRI is aligned with its video tokens, and SmolLM2-135M-Instruct decodes.", False),
        (lab(), "captions by Video-LLaMA (the visual encoder models/video-llama-2-7b/visual_encoder, the language model models/", True),
        (lab(llm="embedded"), "by a miniature video model (the visual encoder models/video-llama-2-7b/visual_encoder, Smol", False),
        (lab(**{**EMBEDDED, "llm": "models/vicuna"}), "tokens, and the language model models/vicuna decodes.", False),
        (lab(OTHER, **EMBEDDED), f"lab/model (revision {'0' * 40}); fMRI is aligned with the video tokens of {MINIATURE}, and Smol", False),
    ],
)  # fmt: skip
def test_models_are_named_by_what_was_loaded(config: Config, words: str, comparable: bool) -> None:
    assert words in references(config) and ("not comparable" not in references(config)) == comparable


@pytest.mark.parametrize("table", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("models", [{}, EMBEDDED])
def test_the_papers_values_and_subjects_are_mentioned_under_its_tables_alone(
    table: int | None, simulated: bool, models: dict[str, str]
) -> None:
    config = lab(table=table, simulated=simulated, **models)
    values, of_paper = published_scores(config.datasets["lab"].table), table in (1, 2)
    told = origin(config, "lab", values)
    assert values.empty != of_paper and ("no values of these data" in told) != of_paper
    assert ("does not name its validation subjects" in told) == (of_paper and not simulated)
    assert ("larger models" in told) == (of_paper and (simulated or bool(models)))
    assert ("no brain was measured" in told) == simulated and ("The BOLD was measured." in told) != simulated
    assert title(config, "lab") == f"Table {table or 3}. Lab: {'SIMULATED' if simulated else 'measured'} BOLD"


def results_of(*entries: tuple[str, str, str, float, bool]) -> pd.DataFrame:
    """Tests of the total: condition, against, metric, p and whether it beats."""
    kinds = {"shuffled": "null", "constant": "null", "random": "null", "ridge": "control", "human": "ceiling", "captioner": "ceiling"}
    names = ["condition", "against", "metric", "p_holm", "beats"]
    table = pd.DataFrame([("model", CHANCE, ANY, 0.0001, True), *entries], columns=names).assign(row="Total", p=lambda t: t["p_holm"])
    return table.assign(
        kind=[kinds.get(c if a == CHANCE else a, "model") for c, a in zip(table["condition"], table["against"], strict=True)]
    )


@pytest.mark.parametrize("ceiling", ["human", "captioner"])
@pytest.mark.parametrize(
    ("own", "lost", "words"),
    [
        ({"identification": (0.4, False), "identification_2way": (0.3, False), ANY: (0.01, True)}, {}, "do not identify them above"),
        ({"identification": (1.0, False), ANY: (0.01, True)}, {"identification": (0.002, True)}, "do not identify them above chance"),
        ({"identification": (0.01, True)}, {"identification": (0.002, True), ANY: (0.002, True)}, "the model identifies the clips better"),
        ({"identification": (0.01, True)}, {"cider": (0.002, True), "identification": (0.4, False), ANY: (0.002, True)}, ""),
        ({"identification": (0.3, False), "identification_10way": (0.01, True)}, {"identification": (1.0, False)}, ""),
        ({ANY: (0.3, False)}, {}, "do not identify them above chance"),
        ({ANY: (0.01, True)}, {ANY: (0.01, True)}, "the model identifies the clips better"),
        ({ANY: (0.01, True)}, {ANY: (0.4, False)}, ""),
    ],
)  # fmt: skip
def test_a_ceiling_that_identifies_no_clip_or_is_beaten_raises_an_alarm(
    ceiling: str, own: dict[str, tuple[float, bool]], lost: dict[str, tuple[float, bool]], words: str
) -> None:
    tests = results_of(*((ceiling, CHANCE, m, *v) for m, v in own.items()), *(("model", ceiling, m, *v) for m, v in lost.items()))
    raised = alarms(tests)
    assert list(raised) == ([ceiling] if words else []) and words in raised.get(ceiling, "")
    assert all(alarm.startswith("ALARM: ") and "the references do not describe the clips" in alarm for alarm in raised.values())


@pytest.mark.parametrize(
    ("ps", "words"),
    [
        ({"constant": 0.002}, "; it tells trials apart better than constant caption (p = 0.002), but does not beat it: its"),
        ({"constant": 0.002, "random": 0.03}, "than constant caption (p = 0.002) and random caption (p = 0.03), but does not beat them"),
        ({"shuffled": 0.3, "constant": 0.002}, "; it does not beat shuffled trials (p = 0.3); it tells trials apart better than constant"),
        ({"shuffled": 0.3}, "The model beats 0 of 1 null controls; it does not beat shuffled trials (p = 0.3)."),
    ],
)  # fmt: skip
def test_a_small_p_without_a_victory_is_explained(ps: dict[str, float], words: str) -> None:
    said = " ".join(verdicts(Config(), results_of(*(("model", control, ANY, p, False) for control, p in ps.items()))))
    assert words in said and "does not beat constant" not in said


@pytest.mark.parametrize(("knows", "alarm"), [(25.0, False), (0.0, True)])
def test_tables_tell_that_references_do_not_describe_the_clips(knows: float, alarm: bool, tmp_path: Path) -> None:
    scored = write_scored(tmp_path, ["model", "llm", "captioner"], SIZES, captioner=knows)
    if alarm:
        table = pq.read_table(scored[0])
        told = {**table.schema.metadata, WARNINGS: b'["9 of 9 clips are unlike"]'}
        pq.write_table(table.replace_schema_metadata(told), scored[0])
    made = _make(_config(simulated=False, controls=["llm", "captioner"]), scored, tmp_path)
    md, tex, noted = made["md"].read_text(), made["tex"].read_text(), pd.read_csv(made["csv"])["note"].fillna("")
    assert ("- **ALARM: the ceiling 'captioner again' saw the clips, but" in md) == alarm == ("ALARM: the ceiling" in tex)
    assert noted.str.startswith("ALARM: the ceiling").any() == alarm == md.splitlines()[2].startswith("- **ALARM: 9 of 9 clips are unlike.")
    assert md.startswith("# Table 1. HAD & co: measured BOLD")


def test_chance_is_printed_as_style_earns_it(tmp_path: Path) -> None:
    made = _make(_config(), write_scored(tmp_path, ["model", "llm", "noise", "shuffled", "trueclass"], SIZES), tmp_path)
    tests = pd.read_csv(made["tests"]).query("condition == 'model' and against == 'chance' and metric != 'any'").set_index("metric")
    md, tex = made["md"].read_text(), made["tex"].read_text()
    for row, heading in (("Total", "## All subjects"), ("Subject-1", "## Subject-1"), ("Subject-2", "## Subject-2")):
        lines = md.partition(heading)[2].splitlines()
        head = next(line for line in lines if line.startswith("| Condition"))
        [line] = [line for line in lines[: lines.index("### Model minus control, " + row)] if line.startswith(f"| {EXPECTED} |")]
        cells = dict(zip(*(map(str.strip, text.split("|")[1:-1]) for text in (head, line)), strict=True))
        expected = tests[tests["row"] == row]["expected"]
        for metric, name in (
            ("identification", "Identification top-1"),
            ("identification_10way", "Identification 10-way"),
            ("cider", "CIDEr"),
        ):
            assert float(cells[name]) == pytest.approx(expected[metric], abs=0.006)
    all_values, all_tests = pd.read_csv(made["csv"]), pd.read_csv(made["tests"])
    last = groups(all_values, all_tests, "Total")[-1]
    shown = {line.title: [cell.value for cell in line.cells] for line in last.lines}
    assert f"{tests[tests['row'] == 'Total']['expected']['identification']:.2f}" in shown["Model, references permuted"]
    figure = identification_curve(all_values, all_tests)
    assert figure and f"by chance: {tests[tests['row'] == 'Total']['expected']['identification_2way']:.1f} % for k = 2" in figure.alt
    assert f"{EXPECTED} & " in tex and "| nominal chance |" in md and f"'{EXPECTED}' is what style earns" in md
