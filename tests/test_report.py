"""The report: whole, safe to open, and showing examples that a rule chose."""

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boldscribe.bold.reasons import BROKEN
from boldscribe.bold.trials import EXCLUDED_TYPES
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation.tables import make_tables
from boldscribe.files import save_array
from boldscribe.reporting.gallery import examples
from boldscribe.reporting.page import write_report
from tests.html_checker import HtmlChecker
from tests.test_tables import CONDITIONS, _scores

SCRIPT = "<script>alert(1)</script> & שלום"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results that the report reads, of a simulated and a measured data set with two subjects each."""
    root = tmp_path_factory.mktemp("results")
    split = {"train_subjects": ["01"], "adaptation_runs": ["01"], "test_runs": ["02"]}
    datasets = {
        "had": {"title": "HAD in miniature", "table": 1, "validation_subjects": ["05", "06"], "simulated": {}, **split},
        "urgen": {"title": "Urgen", "table": 2, "validation_subjects": ["05", "06"], **split},
    }
    config = Config.model_validate({"datasets": datasets, "evaluation": {"bootstrap_samples": 100}})
    files: dict[str, Any] = {name: [] for name in ("tables", "differences", "left_out", "scores", "labels", "frames", "stages", "sc_mbm")}
    for name in datasets:
        own = []
        source = root / "trials" / name / "sub-01_labels.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        seen = {"had": "01-0.mp4", "urgen": "05-3.mp4"}[name]
        pd.DataFrame({"subject": "01", "trial": [0], "stim_file": seen, "action": "juggle", "source": seen}).to_parquet(source)
        files["labels"].append(source)
        for subject in ("05", "06"):
            for condition in CONDITIONS:
                table = _scores(subject, condition, 9)
                if condition == "model":
                    table["bertscore"] = [10.0, 90, 30, 20, 50, 40, 60, 90, 10]
                    table.loc[1, "prediction"], table.loc[0, "prediction"] = SCRIPT, ""
                own.append(root / "scores" / name / f"sub-{subject}_condition-{condition}.parquet")
                own[-1].parent.mkdir(parents=True, exist_ok=True)
                table.to_parquet(own[-1])
            labels = root / "trials" / name / f"sub-{subject}_labels.parquet"
            clips = [f"{subject}-{t}.mp4" for t in range(9)]
            pd.DataFrame({"subject": subject, "trial": range(9), "stim_file": clips, "action": "juggle", "source": clips}).to_parquet(
                labels
            )
            frames = root / "stimuli" / name / f"test-{subject}0_frames.npy"
            brightness = np.arange(9, dtype=np.uint8)[:, None, None, None, None] * 20
            save_array(frames, np.broadcast_to(brightness, (9, 4, 32, 32, 3)), clips=clips)
            files["labels"].append(labels)
            files["frames"].append(frames)
        suffixes = {"csv": ".csv", "md": ".md", "tex": ".tex", "differences": "_differences.csv", "left_out": "_left_out.csv"}
        tables = {n: root / "tables" / f"{name}{s}" for n, s in suffixes.items()}
        excluded = root / "trials" / name / "sub-05_excluded.parquet"
        left_out = [["05", "02", 9, "test", BROKEN, "frames: found 3"]] if name == "had" else []
        pd.DataFrame(left_out, columns=list(EXCLUDED_TYPES)).to_parquet(excluded)
        labels_of_all = [p for p in files["labels"] if p.parent.name == name]
        make_tables(config, name, scores=own, labels=labels_of_all, excluded=[excluded], **tables)
        files["scores"] += own
        files["tables"].append(tables["csv"])
        files["differences"].append(tables["differences"])
        files["left_out"].append(tables["left_out"])
        for stage in ("sc_mbm", "stage1", "stage2"):
            folder = root / stage / name
            folder.mkdir(parents=True)
            curve = pd.DataFrame({"step": range(5), "loss": np.linspace(3, 1, 5), "learning_rate": 0.1, "phase": "train"})
            (pd.DataFrame() if stage == "sc_mbm" and name == "urgen" else curve).to_parquet(folder / "curve.parquet")
            files["sc_mbm" if stage == "sc_mbm" else "stages"].append(folder / "curve.parquet" if stage == "sc_mbm" else folder)
    return {"config": config, "files": files, "root": root}


@pytest.fixture(scope="module")
def page(results: dict[str, Any]) -> str:
    output = results["root"] / "report.html"
    write_report(results["config"], **results["files"], output=output)
    return str(output.read_text())


def test_the_page_is_whole_self_contained_and_accessible(page: str) -> None:
    checker = HtmlChecker()
    checker.feed(page)
    assert checker.problems == [] and checker.open == []
    assert set(checker.pages) == {"provenance.html#tables/had.csv", "provenance.html#tables/urgen.csv", "provenance.html"}
    assert page.count("provenance: not audited") == 2 * 2, "outside a run there is nothing to audit"
    assert len(set(checker.ids)) == len(checker.ids) and {"had", "urgen", "glance"} <= set(checker.ids)
    assert "script" not in checker.tags and page.count("&lt;script&gt;alert(1)") == 2 * 2, "texts of models are escaped"
    assert page.count("<em>(empty)</em>") == 2 * 2
    assert len(page.encode()) < 5e6 and 'name="viewport"' in page and '<html lang="en">' in page


def test_the_page_says_what_is_simulated_and_shows_the_tables(page: str, results: dict[str, Any]) -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Table 1. HAD in miniature: SIMULATED BOLD" in text and re.search(r"Simulated:.{0,120}\( ?had ?\)", text)
    assert re.search(r"Measured:.{0,40}urgen", text) and "Urgen: SIMULATED" not in text
    values = pd.read_csv(results["files"]["tables"][0])
    cell = values.query("row == 'Subject-2' and condition == 'noise' and metric == 'rouge_l_p'").iloc[0]
    assert f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]" in text
    assert "No clip of the 18 test trials was shown to a source subject." in text
    assert "The clips of 1 of the 18 test trials were shown to source subjects too" in text
    assert "66.10†" in text and "54.47†" in text and "Nothing was trained in this stage." in text


def test_figures_are_images_that_open(page: str) -> None:
    found = re.findall(r'src="data:image/(svg\+xml|jpeg);base64,([^"]+)"', page)
    kinds = [kind for kind, _ in found]
    assert kinds.count("svg+xml") == 2 + 5 and kinds.count("jpeg") == 2 * 2 * 3
    for kind, data in found:
        content = base64.b64decode(data)
        assert content[:2] == b"\xff\xd8" if kind == "jpeg" else ElementTree.fromstring(content).tag.endswith("svg")


def test_examples_are_best_median_and_worst(results: dict[str, Any]) -> None:
    files = results["files"]
    scores, labels = (pd.concat(map(pd.read_parquet, [p for p in files[n] if p.parent.name == "had"])) for n in ("scores", "labels"))
    frames = [p for p in files["frames"] if p.parent.name == "had"]
    found = examples(scores, labels, frames)
    # scores 90 90 60 50 40 30 20 10 10 belong to trials 1 7 6 4 5 2 3 0 8
    assert [(e.subject, e.rank, e.trial) for e in found] == [
        (s, r, t) for s in ("05", "06") for r, t in (("best", 1), ("median", 5), ("worst", 0))
    ]
    strip = Image.open(BytesIO(base64.b64decode(found[1].strip.split(",")[1])))
    assert strip.size == (4 * 112, 112) and abs(np.asarray(strip).mean() - 5 * 20) < 3, "the frames are those of its own clip"
    assert [c for c, _ in found[0].controls] == ["LLM without brain", "shuffled trials", "noise"]
    assert [e.rank for e in examples(scores[scores["trial"] == 4], labels, frames)] == ["best", "best"]
    with pytest.raises(UserError, match=r"no frames of 06-1\.mp4"):
        examples(scores, labels, frames[:1])


def test_same_results_give_the_same_bytes(page: str, results: dict[str, Any]) -> None:
    again = results["root"] / "again.html"
    write_report(results["config"], **results["files"], output=again)
    assert again.read_text() == page


def test_missing_parts_are_named(results: dict[str, Any], tmp_path: Path) -> None:
    for name, message in (("tables", r"named had\.csv"), ("sc_mbm", "no learning curve of sc_mbm"), ("scores", "in a folder had/")):
        with pytest.raises(UserError, match=message):
            write_report(results["config"], **{**results["files"], name: []}, output=tmp_path / "report.html")
