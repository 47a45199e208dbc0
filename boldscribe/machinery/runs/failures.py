"""Failures of a run in readable form: job, cause, remedy, last lines, and path of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from boldscribe.machinery.runs.accounting import Account
from boldscribe.machinery.runs.causes import MISTAKE, Cause
from boldscribe.machinery.runs.jobs import Job
from boldscribe.machinery.runs.schedule import duration

MOST = 10  # groups shown
NAMED = 4  # jobs named per group


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        job: the job.
        cause: cause, remedy, and the lines that show it.
        attempts: number of known attempts.
        slurm: number of its last Slurm job; empty without Slurm.
        account: Slurm's accounting record.
        logs: its own log and Slurm's, if they exist.
    """

    job: Job
    cause: Cause
    attempts: int
    slurm: str
    account: Account | None
    logs: tuple[Path, ...]


def summary(failures: Sequence[Failure], most: int = MOST) -> list[str]:
    """Format failures for printing. Failures of a rule with the same cause form a group; the largest groups come first.

    Users' mistakes share one cause although they differ, so they are grouped by message.
    """
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for failure in failures:
        key = (failure.job.rule, failure.cause.name, *(failure.cause.lines if failure.cause.name == MISTAKE else ()))
        groups.setdefault(key, []).append(failure)
    ordered = sorted(groups.values(), key=lambda g: -len(g))
    lines: list[str] = []
    for group in ordered[:most]:
        lines += [*_group(group), ""]
    if left := ordered[most:]:
        lines.append(f"... and {sum(map(len, left))} more failed jobs: {', '.join(sorted({g[0].job.rule for g in left}))}")
    return lines


def _group(group: list[Failure]) -> list[str]:
    first = group[0]
    if len(group) == 1:
        title = f"{first.job}: {first.cause.name}{_how(first)}"
    else:
        names = [" ".join(f.job.names()) for f in group[:NAMED]]
        more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
        title = f"{len(group)} jobs of rule {first.job.rule}: {first.cause.name} ({', '.join(names)}{more}); the first{_how(first)}"
    shown = [title, f"  What to do: {first.cause.remedy}"]
    shown += [f"  | {line}" for line in first.cause.lines]
    return shown + [f"  log: {path}" for path in first.logs]


def _how(failure: Failure) -> str:
    """Format attempts, Slurm's number and state, node and time: ` (attempt 2, Slurm 12: TIMEOUT on node1 after 60 min)`."""
    parts = [f"attempt {failure.attempts}"] if failure.attempts else []
    if failure.slurm:
        account = failure.account
        state = f": {account.state} on {account.node} after {duration(account.elapsed)}" if account else ""
        parts.append(f"Slurm {failure.slurm}{state}")
    return f" ({', '.join(parts)})" if parts else ""


def as_json(failures: Iterable[Failure]) -> list[dict[str, object]]:
    """Return the failures as JSON, for programs."""
    return [
        {
            "rule": f.job.rule,
            "wildcards": dict(f.job.wildcards),
            "cause": f.cause.name,
            "remedy": f.cause.remedy,
            "lines": list(f.cause.lines),
            "attempts": f.attempts,
            "slurm": f.slurm,
            "state": f.account.state if f.account else "",
            "logs": [str(path) for path in f.logs],
        }
        for f in failures
    ]
