"""Slurm's accounting of jobs that have ended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from boldscribe.machinery.cluster.queue import slurm_time

SACCT = (
    "JobIDRaw", "JobID", "State", "ExitCode", "Reason", "NodeList", "ElapsedRaw", "TimelimitRaw", "ReqMem", "MaxRSS", "Start", "End",
    "Comment",
)  # fmt: skip
WAIT = 30  # seconds for Slurm's answer


@dataclass(frozen=True)
class Account:
    """Slurm's accounting record of a job that has ended or is running.

    Attributes:
        slurm, task: number of the job, and its name as a task of an array (`8_1`).
        state: without who cancelled it; `exit_code` and signal, as `0:9`.
        elapsed, limit: seconds.
        asked_mb, used_mb: memory; 0 if unknown.
    """

    slurm: str
    task: str
    state: str
    exit_code: str
    reason: str
    node: str
    elapsed: float
    limit: float
    asked_mb: float
    used_mb: float
    end: datetime | None
    comment: str


def sacct(numbers: Iterable[str]) -> dict[str, Account]:
    """Query the accounting records of jobs by number; empty if there is no accounting or nothing is known."""
    wanted = sorted({n for n in numbers if n}, key=len)
    found: dict[str, Account] = {}
    for i in range(0, len(wanted), 200):  # the length of a command line is limited
        command = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--duplicates",
            f"--format={','.join(SACCT)}",
            f"--jobs={','.join(wanted[i : i + 200])}",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return found
        if done.returncode == 0:
            _add_accounts(done.stdout, found)
    return found


def _add_accounts(answer: str, found: dict[str, Account]) -> None:
    """Add each job's record with the largest memory of its steps. A requeued job has several lines; the last one counts."""
    used: dict[str, float] = {}
    lines = [dict(zip(SACCT, line.split("|", len(SACCT) - 1), strict=False)) for line in answer.splitlines() if "|" in line]
    for line in lines:
        number = line["JobIDRaw"].partition(".")[0]
        used[number] = max(used.get(number, 0.0), megabytes(line.get("MaxRSS", "")))
    for line in lines:
        if "." not in (number := line["JobIDRaw"]):
            found[number] = Account(
                number,
                line["JobID"],
                line["State"].partition(" ")[0],
                line["ExitCode"],
                "" if line["Reason"] == "None" else line["Reason"],
                line["NodeList"],
                _number(line["ElapsedRaw"]),
                60 * _number(line["TimelimitRaw"]),
                megabytes(line["ReqMem"]),
                used[number],
                slurm_time(line["End"]),
                line.get("Comment", ""),
            )


def megabytes(text: str) -> float:
    """Convert memory to MB from Slurm's forms: `100M`, `335664K`, `2Gc` (per core), `4000` (MB)."""
    number, unit = text.rstrip("nc"), 1.0
    if number and number[-1] in "KMGT":
        unit = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}[number[-1]]
        number = number[:-1]
    return _number(number) * unit


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
