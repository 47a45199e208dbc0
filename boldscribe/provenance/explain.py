"""Lineage of a result as a tree, down to raw data and locked assets, and the origin of a table cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.tree import Tree as Lines

from boldscribe.errors import UserError
from boldscribe.provenance.asset_lock import asset_lock
from boldscribe.provenance.deployment import in_words
from boldscribe.provenance.naming import name_of
from boldscribe.provenance.run_files import results_of
from boldscribe.provenance.tree import Output, Tree, read_tree

OF_CONDITION = re.compile(r"condition-(?P<condition>[a-z0-9]+)\.parquet$")
SCORES, PAIRS = re.compile(r"(^|/)scores/[^/]+(?<!_pairs)\.parquet$"), re.compile(r"(^|/)scores/[^/]+_pairs\.parquet$")
SHOWN_FILES = 12


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


def explain(path: Path, *, row: str | None = None, column: str | None = None, condition: str = "model", brief: bool = False) -> Lines:
    """Return the lineage of an output, or of a table cell, as a tree of lines.

    Args:
        path: an output, or a file in one.
        row, column: of a cell: `Subject-1` or `Total`, and a metric such as `bertscore`.
        condition: of the cell: the model, or a control.
        brief: names, digests and rules only.

    Raises:
        UserError: the file has no record, or the table has no such cell.
    """
    results = results_of(path)
    tree = read_tree(results)
    if (output := tree.output_at(path)) is None:
        raise UserError(str(path), "no record mentions it; name a file that the pipeline made")
    if row is None and column is None:
        return _Lineage(tree, brief, lambda name: True).of(output)
    if row is None or column is None:
        raise UserError(str(path), "a cell is identified by --row and --column together; give both")
    return _explain_cell(tree, output, read_cell(path, row, column, condition), brief)


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


def _explain_cell(tree: Tree, table: Output, cell: Cell, brief: bool) -> Lines:
    """Return the chain of a number: trials scored, their predictions, the weights that made them, and on to raw data.

    Texts of other conditions, and scores of pairs that permutation tests compare, are excluded, since the number is not made from them.
    """

    def wanted(name: str) -> bool:
        found = OF_CONDITION.search(name)
        return PAIRS.search(name) is None and (found is None or found["condition"] == cell.condition)

    lines = Lines(f"[bold]{cell.row}, {cell.condition}, {cell.metric}: {cell.value:.2f}[/] [{cell.low:.2f}, {cell.high:.2f}] %")
    lineage = _Lineage(tree, brief, wanted)
    made = lines.add(f"a number in {_line(table)}")
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


@dataclass
class _Lineage:
    """Drawing of outputs and what they were made from; an output that was drawn already is only named.

    Attributes:
        tree: the results tree.
        brief: names, digests and rules only.
        wanted: returns whether an input of that name is drawn.
        drawn: names of the outputs drawn so far.
    """

    tree: Tree
    brief: bool
    wanted: Callable[[str], bool]
    drawn: set[str] = field(default_factory=set)

    def of(self, output: Output) -> Lines:
        """Draw an output with all that it was made from."""
        lines = Lines(_line(output))
        self.grow(lines, output)
        return lines

    def grow(self, lines: Lines, output: Output) -> None:
        """Add an output's facts, and its inputs with theirs."""
        self.drawn.add(output.name)
        self.add_facts(lines, output)
        for material in output.materials():
            if self.wanted(material["path"]):
                self.add(lines, material)

    def add(self, lines: Lines, material: dict[str, Any]) -> None:
        """Add an input: an output of the run, or an external file."""
        output = self.tree.outputs.get(material["path"])
        if output is None:
            lines.add(_outside(material))
        elif output.name in self.drawn:
            lines.add(f"{escape(output.name)}  [dim](above)[/]")
        else:
            self.grow(lines.add(_line(output)), output)

    def add_facts(self, lines: Lines, output: Output) -> None:
        """Add how an output was made, and the files that it contains."""
        if self.brief:
            return
        for fact in facts(output):
            lines.add(f"[dim]{escape(fact)}[/]")
        files = (output.record or {})["subject"]["files"]
        for file in files[:SHOWN_FILES] if len(files) > 1 else []:
            lines.add(f"[dim]contains {escape(file['path'])}  sha256 {file['sha256']}[/]")
        if len(files) > SHOWN_FILES:
            lines.add(f"[dim]and {len(files) - SHOWN_FILES} more files[/]")


def _line(output: Output) -> str:
    record: dict[str, Any] = output.record or {}
    values = ", ".join(f"{k} {v}" for k, v in record["activity"]["wildcards"].items())
    return f"[bold]{output.name}[/]  sha256 {record['subject']['sha256']}  [cyan]{output.rule}[/]" + (f" ({values})" if values else "")


def facts(output: Output) -> Iterator[str]:
    """Yield the facts of a record about how an output was made, one line each."""
    record: dict[str, Any] = output.record or {}
    code, environment, hardware = record["code"], record["environment"], record["hardware"]
    state = {True: "", False: " with uncommitted changes", None: " outside a git checkout"}[code["committed"]]
    yield f"code: commit {code['commit']}{state}, fingerprint {code['fingerprint'][:16]}"
    container = environment["container"]
    yield (
        f"packages: {environment['packages'][:16]}, lock {str(environment['lock_sha256'])[:16]}, {in_words(environment.get('deployment'))}"
        + (f", container {container['image']} {container.get('digest')}" if container else "")
    )
    gpus = ", ".join(f"{g['model']} (driver {g['driver']}, CUDA {g['cuda']})" for g in hardware["gpu"] or []) or "no GPU"
    seeds = ", ".join(map(str, record["randomness"]["seeds"])) or "none read"
    yield f"machine {hardware['machine']}: {hardware['cpu']}, {gpus}; seed {seeds}; repeats {record['randomness']['class']}"
    if record["config"]:
        yield "settings: " + ", ".join(f"{key}={value!r}" for key, value in record["config"].items())


def _outside(material: dict[str, Any]) -> str:
    name = name_of(material["path"], ".") if material["path"].startswith("/") else material["path"]
    line = escape(f"{name}  sha256 {material['sha256']}")
    if "asset" in material:
        asset = next((a for a in asset_lock().values() if a.id == material["asset"]), None)
        return line + f"  [green]asset {material['asset']}" + (f", {asset.version}, {asset.url}, {asset.licence}[/]" if asset else "[/]")
    return line + f"  [green]raw data, in the manifest {material.get('manifest')}[/]"
