"""Command `boldscribe usage`: resource usage of a run's jobs from the ledger, one row per rule."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.provenance.ledger import Wildcards, read_ledger, usage_of_jobs

COLUMNS = {
    "rule": "rule",
    "jobs": "jobs",
    "preempted": "preempted",
    "failed": "failed",
    "wall_seconds": "wall, s",
    "longest_seconds": "longest, s",
    "cpu_seconds": "CPU, s",
    "memory_mib": "memory, MiB",
    "requested_mib": "requested, MiB",
    "memory_percent": "% used",
    "gpus": "GPUs",
    "gpu_memory_mib": "GPU memory, MiB",
    "gpu_utilisation_percent": "GPU, %",
    "gpu_energy_joules": "energy, J",
}


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@user_errors
def usage(results: Path, as_csv: bool) -> None:
    """Report the resource usage of the run in RESULTS: time, memory compared with the request, GPUs.

    One row per rule: sums of wall, CPU and energy over its jobs, the longest job, the peak memory of one job, and the mean
    utilisation of its GPUs over time. Usage before a preempted training run resumed is included; failed attempts are not.
    """
    from boldscribe.machinery.provenance.audit_commands import console

    rows = usage_by_rule(read_ledger(results).entries)
    if not rows:
        raise UserError(str(results), "found no job with measured usage in its ledger; give the results folder of a run")
    if as_csv:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        click.echo(text.getvalue(), nl=False)
        return
    table = Table(box=None, pad_edge=False)
    for name, title in COLUMNS.items():
        table.add_column(title, justify="left" if name == "rule" else "right")
    for row in rows:
        table.add_row(*("" if row[name] is None else f"{row[name]:,}" if name != "rule" else row[name] for name in COLUMNS))
    console().print(table)


def usage_by_rule(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the table's rows, in the order in which the rules first completed.

    Args:
        entries: entries of the ledger, oldest first.
    """
    entries = list(entries)
    ended = Counter((entry["rule"], entry["exit"].partition(":")[0]) for entry in entries if "usage" in entry)
    return [_row(rule, done, ended) for rule, done in usage_of_jobs(entries).items()]


def _row(rule: str, done: Mapping[Wildcards, list[Mapping[str, Any]]], ended: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    every = [part for parts in done.values() for part in parts]
    gpus = [(gpu, part["wall_seconds"]) for part in every for gpu in part["gpus"]]
    memory = max((part["memory_mib"] for part in every), default=None)
    asked = max((part["requested_mib"] for part in every if part["requested_mib"] is not None), default=None)
    shares = [100 * part["memory_mib"] / part["requested_mib"] for part in every if part["requested_mib"]]
    busy = [(gpu["utilisation_percent"] * wall, wall) for gpu, wall in gpus if gpu["utilisation_percent"] is not None and wall]
    energy = [gpu["energy_joules"] for gpu, _ in gpus if gpu["energy_joules"] is not None]
    return {
        "rule": rule,
        "jobs": len(done),
        "preempted": ended[rule, "preempted"],
        "failed": ended[rule, "failed"],
        "wall_seconds": _total(every, "wall_seconds"),
        "longest_seconds": max((_total(parts, "wall_seconds") or 0.0 for parts in done.values()), default=None),
        "cpu_seconds": _total(every, "cpu_seconds"),
        "memory_mib": memory,
        "requested_mib": asked,
        "memory_percent": round(max(shares)) if shares else None,
        "gpus": max((len(part["gpus"]) for part in every if part["gpus"]), default=None),
        "gpu_memory_mib": max((gpu["memory_mib"] for gpu, _ in gpus if gpu["memory_mib"] is not None), default=None),
        "gpu_utilisation_percent": round(sum(x for x, _ in busy) / sum(wall for _, wall in busy), 1) if busy else None,
        "gpu_energy_joules": round(sum(energy), 1) if energy else None,
    }


def _total(parts: Iterable[Mapping[str, Any]], name: str) -> float | None:
    values = [part[name] for part in parts]
    return round(sum(values), 1) if values else None
