"""The main table (conditions by kind × scores with intervals, next to the published values) and the files to download."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boldscribe.conditions import CONDITIONS, KINDS
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.notes import EXPECTED, LABELS, MARK
from boldscribe.evaluation.typeset import columns_of, expected_scores, name_of, number
from boldscribe.evaluation.verdicts import p_text

OTHERS = "To compare with"
BEATEN_BY = ("null", "control")  # kinds that a decoder has to beat


@dataclass(frozen=True)
class Cell:
    """A score: value and interval as text, and marks if the model does not beat it (`°`) or the paper's own rows contradict it (`†`)."""

    value: str = ""
    interval: str = ""
    unbeaten: bool = False
    wrong: bool = False


@dataclass(frozen=True)
class Line:
    """A condition of the table; `p` is that of its own texts against chance."""

    title: str
    cells: list[Cell]
    condition: str
    p: str


@dataclass(frozen=True)
class Group:
    """Conditions of one kind."""

    title: str
    what: str
    lines: list[Line]


def groups(values: pd.DataFrame, tests: pd.DataFrame, row: str) -> list[Group]:
    """Return a row of the paper's table (`Total`, `Subject-1`, ...) for all conditions by kind, then the values to compare with.

    Args:
        values, tests: `D.csv`, `D_tests.csv` (docs/data.md).
        row: name of the row.
    """
    metrics = list(columns_of(values))
    of_row = tests[tests["row"] == row]
    lost = of_row[(of_row["condition"] == "model") & ~of_row["beats"]]
    unbeaten = {(c, m) for c, m in zip(lost["against"], lost["metric"], strict=True) if c in CONDITIONS and CONDITIONS[c].kind in BEATEN_BY}
    own = of_row[(of_row["against"] == CHANCE) & (of_row["metric"] == ANY)]
    p = dict(zip(own["condition"], map(p_text, own["p_holm"]), strict=True))
    lines: dict[str, list[Line]] = {}
    for name, group in values[values["row"] == row].groupby("condition", sort=False):
        name = str(name)
        title = CONDITIONS[name].title if name in CONDITIONS else _capital(name_of(name))
        cells = _cells(group, metrics, {m for m in metrics if (name, m) in unbeaten})
        lines.setdefault(CONDITIONS[name].kind if name in CONDITIONS else OTHERS, []).append(Line(title, cells, name, p.get(name, "")))
        if name == CHANCE and (expected := expected_scores(tests, row)):
            lines[OTHERS].append(Line(_capital(EXPECTED), [Cell(number(expected.get(m))) for m in metrics], EXPECTED, ""))
    found = [Group(LABELS[kind], what, lines[kind]) for kind, what in KINDS.items() if kind in lines]
    return found + ([Group(OTHERS, "chance, and the values printed in the paper, if any", lines[OTHERS])] if OTHERS in lines else [])


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _cells(group: pd.DataFrame, metrics: Sequence[str], unbeaten: set[str]) -> list[Cell]:
    entries = {entry["metric"]: entry for entry in group.to_dict("records")}
    cells = []
    for metric in metrics:
        if metric not in entries or pd.isna(entries[metric]["value"]):
            cells.append(Cell())
            continue
        entry = entries[metric]
        interval = "" if pd.isna(entry["low"]) else f"{entry['low']:.1f} to {entry['high']:.1f}"
        wrong = entry["condition"] not in CONDITIONS and bool(entry.get("note")) and not pd.isna(entry["note"])
        cells.append(Cell(number(entry["value"]), interval, metric in unbeaten, wrong))
    return cells


def errors_of_the_paper(values: pd.DataFrame) -> list[str]:
    """List the errors in printed totals, one sentence each."""
    printed = values[~values["condition"].isin(CONDITIONS)]
    return [f"{MARK} {note}." for note in dict.fromkeys(printed["note"].dropna()) if note]


MEDIA = {".csv": "text/csv", ".md": "text/markdown", ".tex": "application/x-tex"}


def download(path: Path) -> dict[str, str]:
    """Embed a file in the page: return its name and a data URI."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "uri": f"data:{MEDIA[path.suffix]};base64,{encoded}"}
