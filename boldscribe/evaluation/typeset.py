"""Tables in the paper's layout, as Markdown and LaTeX, with conditions grouped by kind and notes for the reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.metrics import in_order, title_of
from boldscribe.evaluation.notes import EXPECTED, LABELS, MARK, NOMINAL
from boldscribe.evaluation.verdicts import p_text

STAR, LOST = "*", "‡"  # the model beats a control, and a control beats the model
REST = "To compare with"  # chance and published values


@dataclass(frozen=True)
class Page:
    """Content of a printed table: `values`, `differences` and `tests` as in their CSV files, and sentences around them."""

    title: str
    verdicts: Sequence[str]
    values: pd.DataFrame
    differences: pd.DataFrame
    tests: pd.DataFrame
    notes: Sequence[str]


def columns_of(values: pd.DataFrame) -> dict[str, str]:
    """Return the metrics that have a value, with their headings; sentence-level BLEU is only in the CSV."""
    return {metric: title_of(metric) for metric in in_order(values.loc[values["value"].notna(), "metric"])}


def name_of(condition: str) -> str:
    """Return the name of a condition in tables."""
    return CONDITIONS[condition].title if condition in CONDITIONS else NOMINAL if condition == CHANCE else condition


def group_of(condition: str) -> str:
    """Return the group of rows that a condition belongs to; the model belongs to none."""
    if condition == "model":
        return ""
    return LABELS[CONDITIONS[condition].kind] if condition in CONDITIONS else REST


def expected_scores(tests: pd.DataFrame, row: str) -> dict[str, float]:
    """Return what the model's texts score with permuted references, by metric: the level that style earns without the clip."""
    own = tests[(tests["row"] == row) & (tests["condition"] == "model") & (tests["against"] == CHANCE) & (tests["metric"] != ANY)]
    return {str(metric): float(value) for metric, value in own.set_index("metric")["expected"].dropna().items()}


def grid(values: pd.DataFrame, tests: pd.DataFrame, row: str) -> list[list[str]]:
    """Lay out a row of the paper's table under all conditions: group, condition, a cell per column, and p against chance."""
    columns = columns_of(values)
    own = tests[(tests["row"] == row) & (tests["against"] == CHANCE) & (tests["metric"] == ANY)].set_index("condition")["p_holm"]
    lines = []
    for condition, group in values[values["row"] == row].groupby("condition", sort=False):
        entries = {entry["metric"]: entry for entry in group.to_dict("records")}
        cells = [_cell(entries.get(m), "value", "low", "high") for m in columns]
        lines.append([group_of(str(condition)), name_of(str(condition)), *cells, p_text(own[condition]) if condition in own.index else ""])
        if condition == CHANCE and (expected := expected_scores(tests, row)):
            lines.append([REST, EXPECTED, *(number(expected.get(m)) for m in columns), ""])
    return lines


def number(value: float | None, mark: str = "") -> str:
    """Format a score; half a hundredth is rounded up, as in the paper: a mean of 35.755 is printed as 35.76."""
    return "" if value is None or pd.isna(value) else f"{value + 1e-9:.2f}{mark}"


def difference_grid(differences: pd.DataFrame, tests: pd.DataFrame, values: pd.DataFrame, row: str) -> list[list[str]]:
    """Lay out the model minus each control in the same way, over trials, with marks of who beats whom, and p of the largest."""
    columns = columns_of(values)
    of_row = tests[(tests["row"] == row) & (tests["against"] != CHANCE)].set_index(["condition", "against", "metric"])
    lines = []
    for control, group in differences[differences["row"] == row].groupby("control", sort=False):
        both = {STAR: ("model", control), LOST: (control, "model")}
        entries = {
            e["metric"]: {**e, "mark": "".join(m for m, pair in both.items() if of_row["beats"].get((*pair, e["metric"]), False))}
            for e in group.to_dict("records")
        }
        cells = [_cell(entries.get(m), "difference", "low_trials", "high_trials") for m in columns]
        p = min(of_row["p_holm"].get((*pair, ANY), 1.0) for pair in both.values())
        lines.append([group_of(str(control)), f"model − {name_of(str(control))}", *cells, p_text(p)])
    return lines


def _cell(entry: Mapping[Any, Any] | None, name: str, low: str, high: str) -> str:
    """Format a value with its interval, marked if the paper contradicts it, an alarm was raised, or one beats the other."""
    if entry is None or pd.isna(entry[name]):
        return ""
    wrong = not pd.isna(entry.get("note")) and entry.get("note")
    mark = MARK if wrong else entry.get("mark", "")
    value = number(entry[name], mark) if name == "value" else f"{entry[name] + 1e-9:+.2f}{mark}"
    size = f" d {entry['effect_size']:.2f}" if not pd.isna(entry.get("effect_size")) else ""
    return value if pd.isna(entry[low]) else f"{value} [{entry[low]:.2f}, {entry[high]:.2f}]{size}"


def markdown(page: Page) -> str:
    """Render the whole page of a table: title, verdicts, all subjects together, differences, each subject, notes."""
    rows = list(dict.fromkeys(page.values["row"]))
    columns = list(columns_of(page.values).values())
    parts = [f"# {page.title}", "\n".join(f"- {'**' + v + '**' if v.startswith('ALARM') else v}" for v in page.verdicts)]
    ours = set(page.differences["row"]) | set(page.tests["row"])
    for row in sorted((row for row in rows if row in ours), key=lambda row: row != "Total"):
        parts += [
            f"## {'All subjects' if row == 'Total' else row}",
            _markdown_table(["Condition", *columns, "p own clip"], grid(page.values, page.tests, row)),
        ]
        differences = difference_grid(page.differences, page.tests, page.values, row)
        if differences:
            parts += [
                f"### Model minus control, {row}",
                f"\\{STAR} the model beats the control in this score, {LOST} the control beats the model.",
                _markdown_table(["Difference", *columns, "p"], differences),
            ]
    if others := [
        [line[0], f"{row}, {line[1]}", *line[2:]] for row in rows if row not in ours for line in grid(page.values, page.tests, row)
    ]:
        parts += ["## The paper's further subjects", _markdown_table(["Condition", *columns, ""], others)]
    return "\n\n".join([*parts, "## Notes", "\n".join(f"- {note.replace('*', chr(92) + '*')}" for note in page.notes)]) + "\n"


def _markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    texts = [list(header), ["---", *["---:"] * (len(header) - 1)]]
    previous = ""
    for group, name, *cells in lines:
        if group not in ("", previous):
            texts.append([f"*{group}*", *[""] * len(cells)])
        previous = group
        texts.append([f"**{cell}**" if cell and name == "model" else cell.replace("*", r"\*") for cell in (name, *cells)])
    return "\n".join("| " + " | ".join(text) + " |" for text in texts)
