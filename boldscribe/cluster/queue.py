"""What of this folder waits and runs in Slurm's queue."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

FIELDS = "%A|%T|%N|%M|%r|%k|%Z"  # job, state, nodes, time used, reason, comment, folder: the last may hold anything


@dataclass(frozen=True)
class QueuedJob:
    """A job of Snakemake's in the queue.

    Attributes:
        id: Slurm's number.
        state: in Slurm's words, such as PENDING, RUNNING.
        nodes: where it runs; empty while it waits.
        used: time since its start.
        reason: why it waits.
        comment: `rule_NAME` or `rule_NAME_wildcards_VALUES`.
    """

    id: str
    state: str
    nodes: str
    used: str
    reason: str
    comment: str

    @property
    def waits(self) -> bool:
        """Whether it has not started, or will start again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "CONFIGURING")


def jobs_of(folder: Path, timeout: float = 30) -> list[QueuedJob] | None:
    """The user's jobs that Snakemake has submitted from a folder; None where Slurm is not to be asked."""
    command = ["squeue", "--noheader", "--user", str(os.getuid()), f"--format={FIELDS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return [job for line in done.stdout.splitlines() if (job := _parse(line, folder))]


def cancel(jobs: list[QueuedJob]) -> None:
    """Take jobs out of the queue."""
    if jobs:
        subprocess.run(["scancel", *(job.id for job in jobs)], capture_output=True, timeout=60, check=False)


def _parse(line: str, folder: Path) -> QueuedJob | None:
    parts = line.split("|", 6)
    if len(parts) != 7 or not parts[5].startswith(("rule_", "group_")) or Path(parts[6]).resolve() != folder.resolve():
        return None
    return QueuedJob(*parts[:6])
