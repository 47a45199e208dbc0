"""Traces that a job which did not succeed has left: in the ledger, its own log, Slurm's logs, and Snakemake's messages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from boldscribe.machinery.runs.jobs import Job
from boldscribe.machinery.runs.logs import Attempt, last_attempt, slurm_logs

SLACK = timedelta(seconds=10)  # between a log's last line and the ledger's entry
AFTERWORD = timedelta(minutes=2)  # time in which Snakemake may still write to Slurm's log of a finished job


@dataclass(frozen=True)
class Trace:
    """Traces of a job that did not succeed.

    Attributes:
        exit: of the ledger's last entry; empty if the last attempt has none.
        attempt: last attempt in the job's own log.
        attempts: number of known attempts.
        slurm, slurm_log: number of the last Slurm job, and its log.
        controller: Snakemake's message about the job.
        since: when it failed.
    """

    exit: str
    attempt: Attempt | None
    attempts: int
    slurm: str
    slurm_log: Path | None
    controller: str
    since: datetime


def trace_of(
    job: Job,
    results: Path,
    folder: Path,
    failed: Mapping[tuple[str, frozenset[tuple[str, str]]], list[dict[str, Any]]],
    completed: Mapping[str, Any] | None,
    errors: Mapping[str, str],
) -> Trace | None:
    """Return the traces of a job that started after it was last completed; None if there are none."""
    log = results / job.log
    attempt = last_attempt(log)
    begun = (attempt.started or attempt.written) if attempt else None
    after = time_of(completed["ended"]) if completed else datetime.min.replace(tzinfo=UTC)
    if begun is not None and begun <= after + (timedelta(0) if attempt and attempt.started else SLACK):
        attempt = begun = None
    entries = [e for e in _entries_of(job, failed, attempt) if time_of(e["ended"]) > after]
    logs = [p for p in slurm_logs(folder, job, results) if written(p) > after + AFTERWORD]
    controller = errors.get(os.path.realpath(log), errors.get(job.rule, ""))
    if begun is None and not entries and not logs and not controller:
        return None
    last = entries[-1] if entries else None
    times = [time_of(last["ended"])] if last else []
    if last and attempt and attempt.started and time_of(last["ended"]) < attempt.started:
        last = None  # the entry belongs to an earlier attempt; the last one ended without an entry
    number = attempt.slurm if attempt else ""
    if logs and int(logs[-1].stem) > int(number or 0):  # the last attempt ended before it wrote to the job's log
        number, last = logs[-1].stem, None if number else last
        attempt = None if attempt and attempt.slurm else attempt
    times += [attempt.written] if attempt else []
    since = max(times, default=written(logs[-1]) if logs else datetime.now(UTC))
    begun_times = [t for t in attempt.starts if t > after] if attempt else []
    attempts = max(len(logs), len(entries), len(begun_times))
    return Trace(last["exit"] if last else "", attempt, attempts, number, logs[-1] if logs else None, controller, since)


def time_of(text: str) -> datetime:
    """Parse a time of the ledger."""
    return datetime.fromisoformat(text)


def written(path: Path) -> datetime:
    """Return when a file was last written."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _entries_of(
    job: Job, failed: Mapping[tuple[str, frozenset[tuple[str, str]]], list[dict[str, Any]]], attempt: Attempt | None
) -> list[dict[str, Any]]:
    """Return a job's failed attempts.

    Programs that do not know all of a job's wildcards record fewer: then the entry is used that ended when the job's log did.
    """
    exact = failed.get((job.rule, frozenset(job.wildcards)))
    if exact is not None or attempt is None:
        return exact or []
    loose = [e for (rule, values), found in failed.items() if rule == job.rule and values < frozenset(job.wildcards) for e in found]
    return [e for e in loose if abs(time_of(e["ended"]) - attempt.written) < SLACK]
