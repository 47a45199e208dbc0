"""Origin of a table cell: the trials that its number was computed from, and what these were made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.tree import Tree as Lines

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.explain import Lineage, described, recorded

OF_CONDITION = re.compile(r"condition-(?P<condition>[a-z0-9]+)\.parquet$")
SCORES, PAIRS = re.compile(r"(^|/)scores/[^/]+(?<!_pairs)\.parquet$"), re.compile(r"(^|/)scores/[^/]+_pairs\.parquet$")


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        row, condition, metric: its position in the table.
        subjects: labels of the subjects from whose trials it was computed.
        value, low, high: the number (%) and its 95 % interval over subjects.
    """

    row: str
    condition: str
    metric: str
    subjects: tuple[str, ...]
    value: float
    low: float
    high: float


def read_cell(path: Path, row: str, metric: str, condition: str) -> Cell:
    """Read a cell of a table (CSV).

    Raises:
        UserError: the file is no table of results, or has no such cell.
    """
    table = pd.read_csv(path, dtype={"subject": str})
    if not {"row", "condition", "metric", "value"} <= set(table):
        raise UserError(str(path), f"columns: found {', '.join(map(str, table))}; expected a table of results, such as tables/had.csv")
    of_condition = table[(table["condition"] == condition) & (table["metric"] == metric)]
    found = of_condition[of_condition["row"] == row]
    if len(found) != 1:
        names = {c: ", ".join(dict.fromkeys(table[c].astype(str))) for c in ("row", "condition", "metric")}
        raise UserError(
            str(path),
            f"found {len(found)} cells for row {row!r}, condition {condition!r}, column {metric!r}; rows are {names['row']}; conditions "
            f"{names['condition']}; columns {names['metric']}",
        )
    of_subjects = found if row != "Total" else of_condition[of_condition["row"] != "Total"]
    values = [float(found[name].iloc[0]) for name in ("value", "low", "high")]
    return Cell(row, condition, metric, tuple(of_subjects["subject"].astype(str)), *values)


def explain_cell(path: Path, row: str, metric: str, condition: str = "model", brief: bool = False) -> Lines:
    """Return the chain of a number: trials scored, their predictions, the weights that made them, and on to raw data.

    Texts of other conditions, and scores of pairs that permutation tests compare, are excluded, since the number is not made from them.

    Args:
        path: a table of results (CSV).
        row, metric, condition: of the cell: `Subject-1` or `Total`, a metric such as `bertscore`, the model or a control.
        brief: names, digests and rules only.

    Raises:
        UserError: the file has no record, or the table has no such cell.
    """
    tree, table = recorded(path)
    cell = read_cell(path, row, metric, condition)

    def wanted(name: str) -> bool:
        found = OF_CONDITION.search(name)
        return PAIRS.search(name) is None and (found is None or found["condition"] == cell.condition)

    lines = Lines(f"[bold]{cell.row}, {cell.condition}, {cell.metric}: {cell.value:.2f}[/] [{cell.low:.2f}, {cell.high:.2f}] %")
    lineage = Lineage(tree, brief, wanted)
    made = lines.add(f"a number in {described(table)}")
    lineage.add_facts(made, table)
    for material in table.materials():
        if SCORES.search(material["path"]):
            scores = pd.read_parquet(tree.file_of(material["path"]), columns=["condition", "subject", "trial"])
            scores = scores[(scores["condition"] == cell.condition) & scores["subject"].isin(cell.subjects)]
            if scores.empty:  # of a fold in which other subjects are the targets
                continue
            trials = ", ".join(map(str, scores["trial"].head(6)))
            lineage.add(made.add(f"{len(scores)} trials scored ({trials}, …); {cell.metric} of each is in"), material)
    return lines
