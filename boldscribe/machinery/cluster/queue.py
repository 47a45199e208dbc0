"""Jobs of this folder in Slurm's queue."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# job, state, nodes, time used, reason, number in its array, submitted, start, comment, folder; the folder is last as it may contain `|`
FIELDS = "%A|%T|%N|%M|%r|%K|%V|%S|%k|%Z"


@dataclass(frozen=True)
class QueuedJob:
    """A Snakemake job in the queue.

    Attributes:
        id: Slurm's job number.
        state: Slurm's state, such as PENDING or RUNNING.
        nodes: where it runs; empty while it waits.
        used: time since its start.
        reason: why it waits.
        comment: `rule_NAME` or `rule_NAME_wildcards_VALUES`; all tasks of an array have that of the first one.
        task: number in its array; empty for other jobs.
        submitted: time of submission.
        starts: when it started, or is expected to; None where Slurm has no estimate.
    """

    id: str
    state: str
    nodes: str
    used: str
    reason: str
    comment: str
    task: str = ""
    submitted: datetime | None = None
    starts: datetime | None = None

    @property
    def rule(self) -> str:
        """Rule or group of the job."""
        return self.comment.partition("_wildcards_")[0].partition("_")[2]

    @property
    def wildcards(self) -> str:
        """Wildcards, as the plugin joins them."""
        return self.comment.partition("_wildcards_")[2]

    @property
    def waits(self) -> bool:
        """True if the job has not started, or will start again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")


def jobs_of(folder: Path, timeout: float = 30) -> list[QueuedJob] | None:
    """Return the user's jobs that Snakemake submitted from a folder; None if Slurm cannot be queried."""
    command = ["squeue", "--noheader", "--array", "--user", str(os.getuid()), f"--format={FIELDS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return [job for line in done.stdout.splitlines() if (job := _parse(line, folder))]


def cancel(jobs: list[QueuedJob]) -> None:
    """Cancel jobs."""
    if jobs:
        subprocess.run(["scancel", *(job.id for job in jobs)], capture_output=True, timeout=60, check=False)


def _parse(line: str, folder: Path) -> QueuedJob | None:
    parts = line.split("|", 9)
    if len(parts) != 10 or not parts[8].startswith(("rule_", "group_")) or Path(parts[9]).resolve() != folder.resolve():
        return None
    number, state, nodes, used, reason, task, submitted, starts, comment = parts[:9]
    task = task if task.isdigit() else ""
    return QueuedJob(number, state, nodes, used, reason, comment, task, slurm_time(submitted), slurm_time(starts))


def slurm_time(text: str) -> datetime | None:
    """Parse a time as Slurm writes it, in this machine's time zone; None for `N/A`, `Unknown` and the like."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
