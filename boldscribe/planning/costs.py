"""What a unit of each stage costs: the table `data/costs.csv`, and what runs of the same experiment took."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path

from boldscribe.errors import UserError
from boldscribe.planning.counting import Amounts
from boldscribe.provenance.ledger import Usages

COSTS = Path(__file__).resolve().parents[2] / "data" / "costs.csv"
KINDS = ("measured", "published", "reckoned")
RULES = {"simulate": ("simulate_stimuli", "simulate_subject"), "report": ("report", "provenance")}  # stages of two rules


@dataclass(frozen=True)
class Cost:
    """A row of the table: what one unit of a stage costs.

    Attributes:
        stage: a rule of the pipeline, or what is fetched (`raw`, `weights`).
        variant: of the stage (`full` or `small` models, an engine, a model), or `any`.
        unit: what is counted: job, subject, run, clip, trial, token, ...
        cpu_seconds, gpu_seconds: time that cores and GPUs are held (s).
        bytes_kept, bytes_scratch, inodes, inodes_scratch: on disk afterwards, and while a job runs.
        memory_mb: largest memory of a job (MB), as its rule asks for.
        kind: measured, published or reckoned.
        source: where the figures come from.
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
    memory_mb: float
    kind: str
    source: str


@dataclass(frozen=True)
class Measured:
    """What the jobs of a stage and data set took.

    Attributes:
        n: jobs that were measured.
        seconds: wall time, mean of a job (s).
        cpu_seconds: time that its cores worked, mean of a job (s).
        memory_mb: largest resident memory (MB).
    """

    n: int
    seconds: float
    cpu_seconds: float
    memory_mb: float


def read_costs(path: Path = COSTS) -> list[Cost]:
    """The rows of the table.

    Raises:
        UserError: a missing table or column, a number that is none or negative, an unknown kind, a row without source.
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
            numbers = {c: float(row[c]) for c in columns[3:10]}
        except ValueError as error:
            raise UserError(str(path), f"line {number}: {error}; expected numbers from {columns[3]} to {columns[9]}") from None
        if min(numbers.values()) < 0:
            raise UserError(str(path), f"line {number}: found a negative number, expected 0 or more")
        costs.append(Cost(**{**row, **numbers}))  # type: ignore[arg-type]
    return costs


def rows_of(costs: list[Cost], stage: str, amounts: Amounts) -> list[tuple[Cost, float]]:
    """The rows that apply to a stage, each with the amount of its unit; units that the stage has none of are left out."""
    return [
        (c, amounts.units[c.unit])
        for c in costs
        if c.stage == stage and c.variant in ("any", amounts.variant) and amounts.units.get(c.unit, 0) > 0
    ]


def measured(done: Usages, stage: str, dataset: str) -> Measured | None:
    """Time and memory of the jobs of a stage, those of a data set's folds too; None where none has run.

    Args:
        done: what the jobs of a run used, by its ledger.
        stage: name.
        dataset: name; empty for stages that belong to none.
    """
    of_dataset = re.compile(rf"{dataset}(fold\d+)?" if dataset else ".*")
    jobs = [(dict(job), parts) for rule in RULES.get(stage, (stage,)) for job, parts in done.get(rule, {}).items()]
    used = [parts for job, parts in jobs if of_dataset.fullmatch(job.get("dataset", ""))]
    if not used:
        return None
    seconds, cpu = (sum(part[name] for parts in used for part in parts) / len(used) for name in ("wall_seconds", "cpu_seconds"))
    return Measured(len(used), seconds, cpu, max(part["memory_mib"] for parts in used for part in parts) * 2**20 / 1e6)
