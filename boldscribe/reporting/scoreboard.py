"""The main table: all conditions by kind × scores with their intervals, the published values beside them, and files to download."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boldscribe.conditions import CONDITIONS, KINDS
from boldscribe.evaluation.typeset import COLUMNS, MARK
from boldscribe.reporting.figures import kind_label

TITLES = {"cider": "CIDEr", "meteor": "METEOR"}
WAYS = re.compile(r"identification_(\d+)way")
BEATEN_BY = ("null", "control")  # kinds that a decoder has to be better than


@dataclass(frozen=True)
class Cell:
    """A score: its value and interval as text, and whether the model does not beat it (`°`) or the paper's own rows contradict it (`†`)."""

    value: str = ""
    interval: str = ""
    unbeaten: bool = False
    wrong: bool = False


@dataclass(frozen=True)
class Line:
    """A condition of the table."""

    title: str
    cells: list[Cell]
    condition: str


@dataclass(frozen=True)
class Group:
    """Conditions of one kind."""

    title: str
    what: str
    lines: list[Line]


def columns_of(values: pd.DataFrame) -> dict[str, str]:
    """Metric → title of those in a table: the printed ones in their order, then all others."""
    present = list(dict.fromkeys(values["metric"]))
    ordered = [m for m in COLUMNS if m in present] + [m for m in present if m not in COLUMNS]
    return {m: title_of(m) for m in sorted(ordered, key=lambda m: m.startswith("identification"))}


def title_of(metric: str) -> str:
    """A metric as headings name it."""
    if ways := WAYS.fullmatch(metric):
        return f"Identification {ways[1]}-way"
    return COLUMNS.get(metric) or TITLES.get(metric) or metric.replace("_", " ").capitalize()


def groups(values: pd.DataFrame, tests: pd.DataFrame, row: str) -> list[Group]:
    """A row of the paper's table (`Total`, `Subject-1`, ...) with all conditions, by kind.

    Args:
        values, tests: `D.csv`, `D_tests.csv` (docs/data.md).
        row: which row.
    """
    of_row = values[values["row"] == row]
    metrics = list(columns_of(values))
    judged = tests[(tests["row"] == row) & (tests["condition"] == "model") & ~tests["beats"]]
    unbeaten = set(zip(judged["against"], judged["metric"], strict=True))
    found = []
    for kind, what in KINDS.items():
        lines = [
            Line(CONDITIONS[name].title, _cells(group, metrics, {m for m in metrics if kind in BEATEN_BY and (name, m) in unbeaten}), name)
            for name, group in _in_order(of_row, [c for c in CONDITIONS if CONDITIONS[c].kind == kind])
        ]
        if lines:
            found.append(Group(kind_label(kind), what, lines))
    others = [c for c in dict.fromkeys(of_row["condition"]) if c not in CONDITIONS]
    lines = [Line(name[0].upper() + name[1:], _cells(group, metrics, set()), name) for name, group in _in_order(of_row, others)]
    return [*found, Group("To compare with", "chance, and the values that the paper prints", lines)] if lines else found


def _in_order(table: pd.DataFrame, names: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    return [(name, group) for name in names if len(group := table[table["condition"] == name])]


def _cells(group: pd.DataFrame, metrics: Sequence[str], unbeaten: set[str]) -> list[Cell]:
    entries = {entry["metric"]: entry for entry in group.to_dict("records")}
    cells = []
    for metric in metrics:
        if metric not in entries or pd.isna(entries[metric]["value"]):
            cells.append(Cell())
            continue
        entry = entries[metric]
        interval = "" if pd.isna(entry["low"]) else f"{entry['low']:.1f} to {entry['high']:.1f}"
        wrong = bool(entry.get("note")) and not pd.isna(entry["note"])
        cells.append(Cell(f"{entry['value'] + 1e-9:.2f}", interval, metric in unbeaten, wrong))
    return cells


def errors_of_the_paper(values: pd.DataFrame) -> list[str]:
    """What is wrong with printed totals, one sentence each."""
    return [f"{MARK} {note}." for note in dict.fromkeys(values["note"].dropna()) if note]


MEDIA = {".csv": "text/csv", ".md": "text/markdown", ".tex": "application/x-tex"}


def download(path: Path) -> dict[str, str]:
    """A file within the page: its name and a data URI."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "uri": f"data:{MEDIA[path.suffix]};base64,{encoded}"}
