"""Cost per unit of each stage: the table `data/costs.csv`, and measurements from runs of the same experiment."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.provenance.ledger import Usages
from boldscribe.planning.counting import Amounts

COSTS = ROOT / "data" / "costs.csv"
KINDS = ("measured", "published", "estimated")


@dataclass(frozen=True)
class Cost:
    """A row of the table: the cost of one unit of a stage.

    Attributes:
        stage: a rule, or what is fetched (`raw`, `weights`).
        variant: variant of the stage (`full` or `small` models, an engine, a model), or `any`.
        unit: what is counted: job, subject, run, clip, trial, token, ...
        cpu_seconds, gpu_seconds: time that cores and GPUs are occupied (s).
        bytes_kept, bytes_scratch, inodes, inodes_scratch: on disk afterwards, and while a job runs.
        kind: one of KINDS.
        source: source of the figures.
    """

    stage: str
    variant: str
    unit: str
    cpu_seconds: float
    gpu_seconds: float
    bytes_kept: float
    bytes_scratch: float
    inodes: float
    inodes_scratch: float
    kind: str
    source: str


@dataclass(frozen=True)
class Measured:
    """Resources that the jobs of a stage and data set used.

    Attributes:
        n: number of measured jobs.
        seconds: mean wall time of a job (s).
        cpu_seconds: mean CPU time of a job (s).
        memory_mb: largest resident memory (MB).
    """

    n: int
    seconds: float
    cpu_seconds: float
    memory_mb: float


def read_costs(path: Path = COSTS) -> list[Cost]:
    """Read the rows of the table.

    Raises:
        UserError: a table or column is missing, a number is invalid or negative, a kind is unknown, or a row has no source.
    """
    columns = [f.name for f in fields(Cost)]
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        raise UserError(str(path), "the table of costs does not exist; restore it from the repository") from None
    costs = []
    for number, row in enumerate(rows, 2):
        if list(row) != columns:
            raise UserError(str(path), f"columns: found {', '.join(map(str, row))}; expected {', '.join(columns)}")
        if row["kind"] not in KINDS or not row["source"]:
            raise UserError(str(path), f"line {number}: found kind {row['kind']!r}, expected one of {', '.join(KINDS)}, and a source")
        try:
            numbers = {c: float(row[c]) for c in columns[3:9]}
        except ValueError as error:
            raise UserError(str(path), f"line {number}: {error}; expected numbers from {columns[3]} to {columns[8]}") from None
        if min(numbers.values()) < 0:
            raise UserError(str(path), f"line {number}: found a negative number, expected 0 or more")
        costs.append(Cost(**{**row, **numbers}))  # type: ignore[arg-type]
    return costs


def rows_of(costs: list[Cost], stage: str, amounts: Amounts) -> list[tuple[Cost, float]]:
    """Return the rows that apply to a stage, each with the amount of its unit; units with no amount are excluded."""
    return [
        (c, amounts.units[c.unit])
        for c in costs
        if c.stage == stage and c.variant in ("any", amounts.variant) and amounts.units.get(c.unit, 0) > 0
    ]


def measured(done: Usages, stage: str, dataset: str) -> Measured | None:
    """Return time and memory of the jobs of a stage, including those of a data set's folds; None if none has run.

    Args:
        done: resources that the jobs of a run used, from its ledger.
        stage: name.
        dataset: name; empty for stages that belong to no data set.
    """
    of_dataset = re.compile(rf"{dataset}(fold\d+)?" if dataset else ".*")
    jobs = [(dict(job), parts) for job, parts in done.get(stage, {}).items()]
    used = [parts for job, parts in jobs if of_dataset.fullmatch(job.get("dataset", ""))]
    if not used:
        return None
    seconds, cpu = (sum(part[name] for parts in used for part in parts) / len(used) for name in ("wall_seconds", "cpu_seconds"))
    return Measured(len(used), seconds, cpu, max(part["memory_mib"] for parts in used for part in parts) * 2**20 / 1e6)
