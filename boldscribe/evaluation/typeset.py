"""Tables in the paper's layout, as Markdown and LaTeX, conditions grouped by kind, with what a reader must know to believe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.notes import LABELS, MARK
from boldscribe.evaluation.statistics import WAYS
from boldscribe.evaluation.verdicts import p_text

# Columns of the printed tables: the paper's, in its order, then ours; the CSV has sentence-level BLEU too.
COLUMNS = {
    "bertscore": "BERTScore",
    "sacrebleu_1": "SacreBLEU-1",
    "sacrebleu_2": "SacreBLEU-2",
    "rouge_l_f": "ROUGE-L F",
    "rouge_l_p": "ROUGE-L P",
    "rouge_l_r": "ROUGE-L R",
    "cider": "CIDEr",
    "meteor": "METEOR",
    "sentence_similarity": "Sentence similarity",
    **{f"identification_{k}way": f"Identification {k}-way" for k in (2, 10, 50, 180)},
    "identification": "Identification top-1",
}
STAR = "*"
REST = "To compare with"  # chance, and what the paper prints


@dataclass(frozen=True)
class Page:
    """What a table is printed from: `values`, `differences` and `tests` as their CSV have them, and sentences around them."""

    title: str
    verdicts: Sequence[str]
    values: pd.DataFrame
    differences: pd.DataFrame
    tests: pd.DataFrame
    notes: Sequence[str]


def columns_of(values: pd.DataFrame) -> dict[str, str]:
    """Metrics of the printed columns that have a value, with their headings."""
    present = set(values.loc[values["value"].notna(), "metric"])
    ways = {m: f"Identification {WAYS.fullmatch(m)[1]}-way" for m in present if WAYS.fullmatch(m)}  # type: ignore[index]
    titles = COLUMNS | ways
    order = [m for m in COLUMNS if m != "identification"] + sorted(ways, key=lambda m: int(WAYS.fullmatch(m)[1]))  # type: ignore[index]
    return {m: titles[m] for m in dict.fromkeys([*order, "identification"]) if m in present}


def name_of(condition: str) -> str:
    """A condition as tables name it."""
    return CONDITIONS[condition].title if condition in CONDITIONS else condition


def group_of(condition: str) -> str:
    """The group of rows that a condition stands in; the model stands in none."""
    if condition == "model":
        return ""
    return LABELS[CONDITIONS[condition].kind] if condition in CONDITIONS else REST


def grid(values: pd.DataFrame, tests: pd.DataFrame, row: str) -> list[list[str]]:
    """A row of the paper's table under all conditions: group, condition, a cell per column, and p of its texts by themselves."""
    columns = columns_of(values)
    own = tests[(tests["row"] == row) & (tests["against"] == CHANCE) & (tests["metric"] == ANY)].set_index("condition")["p_holm"]
    lines = []
    for condition, group in values[values["row"] == row].groupby("condition", sort=False):
        entries = {entry["metric"]: entry for entry in group.to_dict("records")}
        cells = [_cell(entries.get(m), "value", "low", "high") for m in columns]
        lines.append([group_of(str(condition)), name_of(str(condition)), *cells, p_text(own[condition]) if condition in own.index else ""])
    return lines


def difference_grid(differences: pd.DataFrame, tests: pd.DataFrame, values: pd.DataFrame, row: str) -> list[list[str]]:
    """The same for the model less each control, over trials; a star where the model beats it; and p of the largest."""
    columns = columns_of(values)
    of_row = tests[(tests["row"] == row) & (tests["against"] != CHANCE)].set_index(["against", "metric"])
    lines = []
    for control, group in differences[differences["row"] == row].groupby("control", sort=False):
        entries = {e["metric"]: {**e, "beats": of_row["beats"].get((control, e["metric"]), False)} for e in group.to_dict("records")}
        cells = [_cell(entries.get(m), "difference", "low_trials", "high_trials") for m in columns]
        lines.append([group_of(str(control)), f"model − {name_of(str(control))}", *cells, p_text(of_row["p_holm"][control, ANY])])
    return lines


def _cell(entry: Mapping[Any, Any] | None, name: str, low: str, high: str) -> str:
    """A value with its interval, and a mark where the paper contradicts it, or an alarm stands, or the model beats a control."""
    if entry is None or pd.isna(entry[name]):
        return ""
    wrong = not pd.isna(entry.get("note")) and entry.get("note")
    mark = MARK if wrong else STAR if entry.get("beats") else ""
    rounded = entry[name] + 1e-9  # half a hundredth goes up, as in the paper: a mean of 35.755 is printed as 35.76
    value = f"{rounded:.2f}{mark}" if name == "value" else f"{rounded:+.2f}{mark}"
    size = f" d {entry['effect_size']:.2f}" if not pd.isna(entry.get("effect_size")) else ""
    return value if pd.isna(entry[low]) else f"{value} [{entry[low]:.2f}, {entry[high]:.2f}]{size}"


def markdown(page: Page) -> str:
    """The whole page of a table: title, verdicts, all subjects together, differences, each subject, notes."""
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
                f"\\{STAR} the model beats the control in this score.",
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
