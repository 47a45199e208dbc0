"""The provenance page of a small run, made through the recorder."""

import hashlib
import json
from pathlib import Path

import pytest

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.ledger import folder_of
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.provenance.run_files import write_run
from boldscribe.report.lineage import audited, write_lineage
from tests.conftest import ROOT
from tests.html_checker import HtmlChecker


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Scores and a table made from them, and a job that failed."""
    change = {"paths": {"results": str(tmp_path)}}
    write_run(Config.model_validate(change), [ROOT / "config.yaml"], change)
    scores, table = tmp_path / "scores" / "had.parquet", tmp_path / "tables" / "had.csv"
    with record(Job("scores", tmp_path, {}, {"scores": [scores]}, {"dataset": "<had>"}, {"evaluation.bootstrap_samples": 10000})):
        scores.parent.mkdir()
        scores.write_text("scores")
    with record(Job("tables", tmp_path, {"scores": [scores]}, {"csv": [table]}, {"dataset": "had"})):
        table.parent.mkdir()
        table.write_text("table")
    with pytest.raises(ZeroDivisionError), record(Job("report", tmp_path, {}, {"html": [tmp_path / "report.html"]})):
        1 / 0  # noqa: B018
    return tmp_path


def test_the_page_leads_from_each_rule_to_what_it_made_and_on_to_what_that_was_made_from(results: Path) -> None:
    write_lineage(results / "provenance.html")
    page = (results / "provenance.html").read_text()
    checker = HtmlChecker()
    checker.feed(page)
    assert checker.problems == [] and checker.open == []
    assert {"rule-scores", "rule-tables", "scores/had.parquet"} <= set(checker.anchors)
    assert set(checker.anchors) <= set(checker.ids), "every link leads somewhere"
    assert "from failed jobs" in page and "evaluation.bootstrap_samples=10000" in page


def test_badges_are_the_worst_verdict_of_what_a_table_was_made_from(results: Path, tmp_path: Path) -> None:
    def badge() -> str:
        return audited(results).verdict(results / "tables" / "had.csv")

    assert badge() in ("verified", "uncommitted")
    (results / "scores" / "had.parquet").write_text("better scores")
    assert badge() == "tampered"
    outside = audited(tmp_path / "nothing")
    assert outside.verdict(Path("had.csv")) == "not audited" and outside.origin is None


def test_the_report_is_told_which_code_settings_and_packages_made_its_results(results: Path) -> None:
    origin = audited(results).origin
    assert origin is not None and "2 records" in origin.caption
    rows = {name: text for name, text, *_ in origin.rows}
    state = json.loads((results / "scores" / "had.parquet.prov.json").read_text())
    assert state["code"]["commit"] in rows["Code (commit)"] and state["environment"]["lock_sha256"] in rows["Locked packages (SHA-256)"]
    settings = {"evaluation.bootstrap_samples": 10000}
    assert rows["Settings that the steps read (SHA-256)"] == hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def test_a_damaged_ledger_stops_the_page(results: Path) -> None:
    write_lineage(results / "provenance.html")
    path = folder_of(results) / "ledger.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "entry": {}})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="line 2 does not follow"):
        write_lineage(results / "provenance.html")
