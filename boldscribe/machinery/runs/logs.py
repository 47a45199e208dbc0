"""Logs of a job's attempts, of Slurm, and of Snakemake, which submits and watches the jobs."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from boldscribe.machinery.runs.jobs import Job

TAIL = 200_000  # bytes read from a log: they hold the last attempt, unless a program writes without end
HEADER = re.compile(
    r"^=== (?P<rule>\w+)(?P<wildcards>(?: \w+=\S*)*)(?: \| [^|\n]+)? \| attempt (?P<attempt>\d+)"
    r" \| (?:no Slurm|Slurm (?:job )?(?P<slurm>\w+))"
    r" \| (?P<node>[^|]*) \| (?P<time>\S+) ===\s*$",
    re.M,
)
# Snakemake's message about a failed job: Slurm's message, the path of the job's log, and before it how a command on this machine ended
CONTROLLER_ERROR = re.compile(
    r"(?:^RuleException:\n(?P<exception>(?:[^\n]+\n)+?)\[[^\n]*\]\n)?"
    r"^Error in (?:rule|group) (?P<rule>[\w-]+):\n    message: (?P<message>.*?)(?:^    sbatch call:.*?)?(?:^For further error details .*?)?"
    r"^    jobid: [^\n]*\n(?P<body>(?:    [^\n]*\n)*)",
    re.M | re.S,
)


@dataclass(frozen=True)
class Attempt:
    """The last attempt in a job's log.

    Attributes:
        text: from its header on; the whole log if there is no header.
        starts: start of each attempt in the log, from the headers.
        slurm: number of its Slurm job; empty without Slurm.
        node, started: where and when it started; the latter is None if no header states it.
        written: when the log was last written to.
    """

    text: str
    starts: tuple[datetime, ...]
    slurm: str
    node: str
    started: datetime | None
    written: datetime

    def lines(self) -> list[str]:
        """Return the text without headers and empty lines, and only the last state of progress bars."""
        shown = [line.rsplit("\r", 1)[-1].rstrip() for line in self.text.replace("\r\n", "\n").split("\n")]
        return [line for line in shown if line.strip() and not HEADER.match(line)]


def last_attempt(log: Path) -> Attempt | None:
    """Return the last attempt in a log; None if there is no log."""
    text = tail(log)
    if text is None:
        return None
    written = datetime.fromtimestamp(log.stat().st_mtime, UTC)
    headers = list(HEADER.finditer(text))
    if not headers:
        return Attempt(text, (), "", "", None, written)
    last = headers[-1]
    # each process of a training run may write a header: the attempt begins with the first one
    first = next(h for h in headers if (h["attempt"], h["slurm"], h["time"]) == (last["attempt"], last["slurm"], last["time"]))
    starts = tuple(dict.fromkeys(time for h in headers if (time := _time(h["time"])) is not None))
    return Attempt(text[first.start() :], starts, first["slurm"] or "", first["node"].strip(), _time(first["time"]), written)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def tail(path: Path) -> str | None:
    """Read the end of a file; None if it cannot be read."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            return stream.read().decode(errors="replace")
    except OSError:
        return None


def slurm_logs(folder: Path, job: Job, results: Path) -> list[Path]:
    """Return Slurm's logs of a job's attempts, oldest first.

    All results trees of a folder keep them in the same place, and so do jobs that share a Slurm job. A job's own logs are those that name
    the tree, and also the job if it shares. Logs in which nothing was written count if they are younger than the tree's last start. Logs of
    array tasks are stored separately, named by the array, and are found by number (`task_log`).
    """
    place = folder / ".snakemake" / "slurm_logs" / job.slurm_folder()
    named = [p for p in place.glob("*.log") if p.stem.isdigit()]
    started = results / "run.json"
    since = started.stat().st_mtime if started.exists() else math.inf
    tree = os.path.relpath(results, folder) if results.resolve().is_relative_to(folder.resolve()) else str(results)
    words = [tree]
    if job.group:
        words.append(" ".join(["===", job.rule, *(f"{name}={value}" for name, value in job.wildcards), "|"]))

    def own(path: Path) -> bool:
        text = tail(path) or ""
        unheard = HEADER.search(text) is None and "Error in rule" not in text and path.stat().st_mtime >= since
        return unheard or all(word in text for word in words)

    return sorted(filter(own, named), key=lambda p: int(p.stem))


def task_log(folder: Path, rule: str, task: str) -> Path:
    """Return the path of Slurm's log of an array task."""
    return folder / ".snakemake" / "slurm_logs" / f"rule_{rule}" / f"{task}.log"


def controller_log(folder: Path) -> Path | None:
    """Return Snakemake's own log of its last run in a folder."""
    return max((folder / ".snakemake" / "log").glob("*.snakemake.log"), default=None)


def controller_errors(log: Path | None) -> dict[str, str]:
    """Map each failed job's log (or its rule, if no log is named) to Snakemake's last message about the failure, in one line."""
    found: dict[str, str] = {}
    for match in CONTROLLER_ERROR.finditer(tail(log) or "" if log else ""):
        place = re.search(r"^    log: ([^,\n]*?)(?:, | \(check log file|$)", match["body"], re.M)
        said = "" if match["message"].strip() == "None" else match["message"]
        ending = re.search(r"returned non-zero exit status \d+|died with [^\n]*", match["exception"] or "")
        found[place[1].strip() if place else match["rule"]] = " ".join(f"{said} {ending[0] if ending else ''}".split())
    return found
