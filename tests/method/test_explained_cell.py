"""From a cell of a table to its trials: one file holds the scores of all conditions and subjects."""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from boldscribe.config import Config
from boldscribe.evaluation.explained_cell import explain_cell
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.provenance.run_files import write_run
from tests.conftest import ROOT

Trials = list[tuple[str, int]]  # subjects, and how many trials they have


def make_table(folder: Path, folds: dict[str, Trials], references: str = "") -> Path:
    """A table, made from scores and pairs of folds, made from the texts of two conditions."""
    change = {"paths": {"results": str(folder)}}
    write_run(Config.model_validate(change), [ROOT / "config.yaml"], change)
    scores, pairs, csv = [], [], folder / "tables" / f"had{references}.csv"
    for fold, subjects in folds.items():
        decoded = [folder / "decoded" / fold / f"condition-{c}.parquet" for c in ("model", "llm")]
        for path in decoded:
            condition = path.stem.removeprefix("condition-")
            with record(Job("decode", folder, {}, {"decoded": [path]}, {"dataset": fold, "condition": condition})):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(condition)
        scores.append(folder / "scores" / f"{fold}{references}.parquet")
        pairs.append(folder / "scores" / f"{fold}{references}_pairs.parquet")
        trials = [(c, s, t) for c in ("model", "llm") for s, n in subjects for t in range(n)]
        with record(Job("scores", folder, {"decoded": decoded}, {"scores": scores[-1:], "pairs": pairs[-1:]}, {"dataset": fold})):
            scores[-1].parent.mkdir(exist_ok=True)
            pd.DataFrame(trials, columns=["condition", "subject", "trial"]).to_parquet(scores[-1])
            pairs[-1].write_text("pairs")
    with record(Job("tables", folder, {"scores": scores, "pairs": pairs}, {"csv": [csv]}, {"dataset": "had"})):
        csv.parent.mkdir()
        rows = [
            (row, s, c, "bertscore", 50.0, 40.0, 60.0)
            for row, s in (("Subject-1", "05"), ("Subject-2", "06"), ("Total", ""))
            for c in ("model", "llm")
        ]
        pd.DataFrame(rows, columns=["row", "subject", "condition", "metric", "value", "low", "high"]).to_csv(csv, index=False)
    return csv


def _said(table: Path, row: str, condition: str) -> str:
    console = Console(width=300, record=True, file=(table.parent / "said.txt").open("w"))
    console.print(explain_cell(table, row, "bertscore", condition))
    return console.export_text()


def test_a_cell_leads_to_the_trials_of_its_subjects_and_to_the_texts_of_its_condition(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"had": [("05", 3), ("06", 2)]})
    said = _said(table, "Subject-1", "llm")
    assert "Subject-1, llm, bertscore: 50.00 [40.00, 60.00] %" in said and "3 trials scored (0, 1, 2, …)" in said
    assert "condition-llm.parquet" in said and "condition-model.parquet" not in said and "had_pairs" not in said
    assert "5 trials scored" in _said(table, "Total", "model")
    against_people = _said(make_table(tmp_path / "people", {"had": [("05", 3)]}, "_descriptions"), "Subject-1", "llm")
    assert "3 trials scored" in against_people and "scores/had_descriptions.parquet" in against_people and "_pairs" not in against_people
    with pytest.raises(UserError, match="found 0 cells for row 'Subject-9'"):
        explain_cell(table, "Subject-9", "bertscore")


def test_a_subjects_cell_leads_to_its_own_fold_alone_and_the_total_to_all(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"hadfold01": [("05", 3)], "hadfold02": [("06", 2)]})
    said = _said(table, "Subject-2", "model")
    assert "2 trials scored (0, 1, …)" in said and "hadfold02" in said and "0 trials" not in said and "hadfold01" not in said
    total = _said(table, "Total", "model")
    assert "3 trials scored" in total and "2 trials scored" in total
