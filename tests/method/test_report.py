"""The report: whole, safe to open, saying in words what the tables say, and showing examples that a rule chose."""

import base64
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.evaluation.score_tables import WARNINGS
from boldscribe.evaluation.verdicts import verdicts
from boldscribe.machinery.errors import UserError
from boldscribe.report.evidence import leakage
from boldscribe.report.figures import PALETTE
from boldscribe.report.gallery import examples
from boldscribe.report.page import CITATION, PEOPLE, write_report
from boldscribe.report.trial_table import pack_trials
from tests.as_step import as_step
from tests.conftest import ROOT
from tests.html_checker import HtmlChecker
from tests.report_results import METRICS, write_results

Results = tuple[Config, dict[str, list[Path]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Fewer conditions of one data set, which are quick to write."""
    return write_results(tmp_path_factory.mktemp("few"), 20, conditions=("model", "llm", "shuffled"), datasets=("had",))


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    config, files = results
    output = tmp_path_factory.mktemp("page") / "report.html"
    write_report(as_step(config, "report"), files, output)
    return output.read_text()


def text_of(page: str) -> str:
    return unescape(" ".join(re.sub(r"<(style|script)[^>]*>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL).split()))


def tables_of(results: Results, dataset: str, kind: str) -> pd.DataFrame:
    (path,) = (p for p in results[1][kind] if p.name.startswith(dataset))
    return (
        pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pd.read_csv(path, dtype={"subject": str}, keep_default_na=False, na_values=[""])
    )


def test_the_page_is_whole_self_contained_and_accessible(page: str) -> None:
    checker = HtmlChecker()
    checker.feed(page)
    assert checker.problems == [] and checker.open == []
    assert set(checker.pages) == {f"provenance.html#tables/{d}{s}.csv" for d in ("had", "urgen") for s in ("", "_tests")} | {
        "provenance.html"
    }
    assert len(set(checker.ids)) == len(checker.ids) and set(checker.anchors) <= set(checker.ids)
    levels = [int(tag[1]) for tag in checker.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= set(checker.tags) and checker.tags.count("main") == 1
    assert checker.tags.count("caption") == checker.tags.count("table")
    assert not re.search(r"<th(?![^>]*scope=)[ >]", page)
    assert len(page.encode()) < 20e6 and 'name="viewport"' in page and '<html lang="en">' in page


def test_no_text_of_a_model_and_no_other_script_can_run(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1] == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "<script>alert" not in page and page.count("&lt;script&gt;alert(1)") >= 2 * 2
    assert page.count("<em>(empty)</em>") >= 2 * 2


def test_the_words_are_those_of_the_tables_and_say_what_is_simulated(results: Results, page: str) -> None:
    config, text = results[0], text_of(page)
    for dataset, label in (("had", "On HAD in miniature (simulated BOLD), the model"), ("urgen", "On Urgen (measured BOLD), the model")):
        first, *others = verdicts(config, tables_of(results, dataset, "tests").replace({"kind": {"null control": "null"}}))
        assert f"{label}{first.removeprefix('The model')}" in text and all(sentence in text for sentence in others)
        assert any("beats 9 of 9 null controls" in sentence for sentence in others)
    assert "(HAD in miniature). No brain was measured." in text and "SIMULATED from the clips" in text
    assert text.count("Simulated BOLD.") == 1


def test_alarms_are_raised_and_stand_first(few: Results, tmp_path: Path) -> None:
    config, files = few
    tests = tables_of(few, "had", "tests")
    tests.loc[(tests["condition"] == "shuffled") & (tests["against"] == "chance"), "beats"] = True
    report = json.loads(files["leakage"][0].read_text())
    leaking = tmp_path / "had.json"
    leaking.write_text(json.dumps({**report, "split": "strict"}))
    assert leakage(files["leakage"][:1]).alarms == [] and "strict" in leakage([leaking]).alarms[0]
    changed = tmp_path / "had_tests.csv"
    tests.to_csv(changed, index=False)
    texts = pq.read_table(files["scores"][0])
    scores = texts.to_pandas()
    scores["reference"] += " " + scores["subject"] + scores["trial"].astype(str)  # no two of them the same
    scores.loc[scores["condition"] == "model", "prediction"] = scores["reference"]
    told = {**texts.schema.metadata, WARNINGS: b'["9 of 9 clips are unlike the rendered clips"]'}
    copied = tmp_path / "scores" / "had.parquet"
    copied.parent.mkdir()
    pq.write_table(pa.Table.from_pandas(scores).replace_schema_metadata(told), copied)
    others = {"tests": [changed], "leakage": [leaking], "scores": [copied], "maps": []}
    models = {"llm": "embedded", "visual_encoder": "embedded", "connectors": "boldscribe/models/weights/connectors.safetensors"}
    embedded = config.model_copy(update={"video_llama": config.video_llama.model_copy(update=models)})
    write_report(embedded, {**files, **others}, tmp_path / "report.html")
    text = text_of((tmp_path / "report.html").read_text())
    glance = text[text.index("At a glance") :]
    places = [
        glance.index(words)
        for words in (
            "9 of 9 clips are unlike",
            "null control 'shuffled trials' tells trials apart",
            "the texts of 'model' equal their references",
            "The split is strict",
            "No brain",
            "On HAD",
        )
    ]
    assert places == sorted(places) and places[0] < 60
    assert "captions by a miniature video model (EfficientNet-Lite0, SmolLM2" in glance and "captions by Video-LLaMA" not in text


def test_tables_show_every_value_and_the_papers_errors(results: Results, page: str) -> None:
    text, values = text_of(page), tables_of(results, "had", "tables")
    for row, condition in product(("Subject-2", "Total"), CONDITIONS):
        entry = values[(values["row"] == row) & (values["condition"] == condition) & (values["metric"] == "meteor")].iloc[0]
        assert f"{entry['value']:.2f}" in text and f"{entry['low']:.1f} to {entry['high']:.1f}" in text
    assert "66.10†" in text and "54.47†" in text and text.count("An error in the paper's table.") == 2
    assert "56.23" in text.replace("56.22", "56.23") and "Nothing was trained in this stage." in text
    table = page[page.index('<table class="scores">') : page.index("</table>", page.index('<table class="scores">'))]
    rows = {re.sub(r"<[^>]+>", "", m[1]): m[2] for m in re.finditer(r'<th scope="row">(.*?)</th>(.*?)</tr>', table, re.DOTALL)}
    assert {name: cells.count("unbeaten") for name, cells in rows.items() if "unbeaten" in cells} == {
        CONDITIONS[c].title: len(METRICS) - 4 for c in CONDITIONS if CONDITIONS[c].kind == "control"
    }, "null controls are beaten everywhere, controls in identification; ablations and ceilings need not be"
    for name in ("had.csv", "had_tests.csv", "urgen.tex", "had.md"):
        uri = re.search(rf'href="data:[\w/+-]+;base64,([^"]+)" download="{name}"', page)
        assert uri and base64.b64decode(uri[1]) == (results[1]["tables"][0].parent / name).read_bytes()


def images(page: str) -> Iterator[tuple[str, bytes]]:
    for kind, data in re.findall(r'(?:src|srcset)="data:image/(svg\+xml|webp);base64,([^"]+)"', page):
        yield kind, base64.b64decode(data)


def test_figures_are_images_that_open_and_follow_the_readers_screen(page: str) -> None:
    found = list(images(page))
    drawn = [ElementTree.fromstring(content) for kind, content in found if kind == "svg+xml"]
    assert len(drawn) == 2 * (6 + 1) + 2 * (3 + 2), "forests, identification; loss and learning rate of five trainings"
    for content in (content.decode() for kind, content in found if kind == "svg+xml"):
        styles = content[content.index("<style>") : content.index("</style>")]
        rest = content.replace(styles, "")
        assert "prefers-color-scheme:dark" in styles and not any(light in rest for light, _ in PALETTE.values())
    pictures = [Image.open(BytesIO(content)) for kind, content in found if kind == "webp"]
    assert len(pictures) == 2 * (2 * 4 + 2), "four examples of each subject, and a glass brain for light and dark"


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colours_stand_out_from_the_page() -> None:
    """WCAG 2.2: 4.5 to 1 for words (1.4.3), 3 to 1 for what is drawn (1.4.11)."""
    css = (ROOT / "boldscribe" / "report" / "page.css").read_text()
    variables = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css)
    for i in (0, 1):
        surfaces = dict(variables[: len(variables) // 2] if i == 0 else variables[len(variables) // 2 :])
        ours = {name: pair[i] for name, pair in PALETTE.items()}

        def contrast(one: str, other: str) -> float:
            light, dark = sorted((luminance(one), luminance(other)), reverse=True)
            return (light + 0.05) / (dark + 0.05)

        for surface in ("paper", "raised", "alarm", "own", "good", "doubt"):
            assert contrast(ours["ink"], surfaces[surface]) > 7, (surface, i)
            assert contrast(ours["soft"], surfaces[surface]) > 4.5, (surface, i)
        assert contrast(surfaces["link"], surfaces["paper"]) > 4.5 and contrast(surfaces["link"], surfaces["raised"]) > 4.5
        for kind in ("model", "null", "control", "ablation", "ceiling"):
            assert contrast(ours[kind], surfaces["paper"]) > 3, (kind, i)


def test_examples_are_best_median_worst_and_drawn_by_lot(results: Results) -> None:
    files = results[1]
    scores = tables_of(results, "had", "scores")
    labels = pd.concat(map(pd.read_parquet, [p for p in files["labels"] if p.parent.name == "had"]))
    frames = [p for p in files["frames"] if p.parent.name == "had"]
    found = [e for e in examples(scores, labels, frames, seed=1) if e.subject == "05"]
    # scores 90 30 20 50 40 60 85 10, then four between 35 and 45: the sixth of twelve is one of these or trial 4
    ranked = scores[(scores["condition"] == "model") & (scores["subject"] == "05")].sort_values("bertscore", ascending=False)
    assert [(e.rank, e.trial) for e in found[:3]] == [("best", 0), ("median", ranked["trial"].iloc[5]), ("worst", 7)]
    drawn = {examples(scores, labels, frames, seed)[3].trial for seed in range(12)}
    assert found[3].rank == "random" and len(drawn) > 3 and not drawn & {e.trial for e in found[:3]}
    strip = Image.open(BytesIO(base64.b64decode(found[2].frames.split(",")[1])))
    assert strip.size == (4 * 112, 112) and abs(np.asarray(strip).mean() - 7 * 4) < 3, "the frames are those of its own clip"
    assert [title for title, _ in found[0].controls] == [c.title for name, c in CONDITIONS.items() if name != "model"]
    assert [e.rank for e in examples(scores[scores["trial"] == 4], labels, frames, seed=1)] == ["best", "best"]
    with pytest.raises(UserError, match=r"no frames of 06-\d+\.mp4"):
        examples(scores, labels, frames[:1], seed=1)


def test_packed_trials_hold_what_the_scores_hold(results: Results) -> None:
    scores = tables_of(results, "urgen", "scores")
    labels = pd.concat(map(pd.read_parquet, [p for p in results[1]["labels"] if p.parent.name == "urgen"]))
    packed = pack_trials(scores, labels, largest=10**7)
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed.packed)))
    assert list(content["conditions"]) == list(CONDITIONS) == [name for name, _ in packed.conditions] and packed.left_out == []
    for name in ("model", "llm", "captioner"):
        own = scores[scores["condition"] == name].sort_values(["subject", "trial"])
        subjects, trials, actions, references = content["trials"]
        kept = content["conditions"][name]
        assert (subjects, trials) == (own["subject"].tolist(), own["trial"].tolist())
        assert [content["texts"][i] for i in references] == own["reference"].tolist()
        assert [content["texts"][i] for i in kept["texts"]] == own["prediction"].tolist()
        assert {content["texts"][i] for i in actions} == set(labels["action"])
        np.testing.assert_allclose(kept["scores"][0], own["bertscore"], atol=0.051)
    small = pack_trials(scores, labels, largest=len(packed.packed) // 2)
    assert 0 < len(small.conditions) < len(CONDITIONS) and len(small.packed) <= len(packed.packed) // 2
    assert [*(title for _, title in small.conditions), *small.left_out] == [c.title for c in CONDITIONS.values()]


def test_a_table_against_people_stands_under_its_own_heading_and_doubles_nothing_else(few: Results, tmp_path: Path) -> None:
    """The first table under the second one's names, without published values."""
    config, files = few
    described = {}
    for kind in ("tables", "differences", "tests", "left_out", "markdown", "latex", "scores"):
        first = files[kind][0]
        copy = tmp_path / f"had_descriptions{first.name.removeprefix('had')}"
        shutil.copy(first, copy)
        described[kind] = [first, copy]
    values = tables_of(few, "had", "tables")
    values[~values["condition"].str.startswith("published")].to_csv(described["tables"][1], index=False)
    (tmp_path / "texts.tsv").write_text("stimulus\tdescription\na\tA girl jumps.\n")
    design = config.datasets["had"].model_copy(update={"description_file": str(tmp_path / "texts.tsv")})
    config = as_step(config.model_copy(update={"datasets": {"had": design}}), "report")
    write_report(config, {**files, **described}, tmp_path / "people.html")
    write_report(few[0], files, tmp_path / "plain.html")
    page, plain = ((tmp_path / f"{name}.html").read_text() for name in ("people", "plain"))
    text = text_of(page)
    assert f'<h3 id="had-people">{PEOPLE}</h3>'.replace("'", "&#39;") in page and 'href="#had-people"' in page and "had-people" not in plain
    assert text.count("(simulated BOLD), against sentences that people wrote, the model") == 2, "at a glance, and under its heading"
    assert "the sentences of their own clips" in text and f"sentences that people wrote ({tmp_path / 'texts.tsv'})" in text
    assert 'download="had_descriptions_tests.csv"' in page and 'href="provenance.html#tables/had_descriptions.csv"' in page
    for once in ("data-trials id=", 'class="card"', "<figure>"):
        assert page.count(once) == plain.count(once) > 0, once
    second = text_of(page.partition('id="had-people"')[2].partition("<h3")[0])
    assert "Published" not in second and "LLM without brain" in second
    with pytest.raises(UserError, match=r"found 0 files named had_descriptions\.csv"):
        write_report(config, files, tmp_path / "people.html")


def test_same_results_give_the_same_bytes(few: Results, tmp_path: Path) -> None:
    for name in ("once.html", "again.html"):
        write_report(few[0], {**few[1], "maps": []}, tmp_path / name)
    assert (tmp_path / "once.html").read_bytes() == (tmp_path / "again.html").read_bytes()


def test_what_a_run_did_not_make_is_left_out_and_what_is_missing_is_named(few: Results, tmp_path: Path) -> None:
    config, files = few
    optional = ("retrieval", "maps", "reliability", "quality", "leakage", "markdown", "latex")
    write_report(config, {k: v for k, v in files.items() if k not in optional}, tmp_path / "report.html")
    text = text_of((tmp_path / "report.html").read_text())
    assert "Noise ceiling" not in text and "Leakage" not in text and "Data quality" in text
    for name, message in (("tables", r"named had\.csv"), ("sc_mbm", "no learning curve of sc_mbm"), ("labels", "in a folder had/")):
        with pytest.raises(UserError, match=message):
            write_report(config, {**files, name: []}, tmp_path / "report.html")
    with pytest.raises(UserError, match=r"found 0 files named had\.json"):
        write_report(config, {**files, "leakage": [tmp_path / "other.json"]}, tmp_path / "report.html")


def test_the_citation_is_that_of_the_software() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["title"] in CITATION and f"Version {cited['version']}" in CITATION and cited["license"] in CITATION
