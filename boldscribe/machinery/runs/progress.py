"""Progress and remaining time of a run, for `boldscribe status` and for a line each minute while Snakemake runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, TextIO

from boldscribe.machinery.configuration import Experiment
from boldscribe.machinery.processes import cores
from boldscribe.machinery.registry import Need, the_workflow
from boldscribe.machinery.runs.jobs import Job
from boldscribe.machinery.runs.schedule import Room, duration, makespan, needs_of
from boldscribe.machinery.runs.status import DONE, FAILED, QUEUED, RUNNING, Overview, survey

INTERVAL = 60.0  # seconds between two lines
STEADY = 5  # jobs after which a run's pace is trusted
OVERDUE = 0.2  # minimum share of its time that a running job is assumed to have left
SLOWEST = 10.0  # maximum ratio of actual to estimated time


def at_once(finished: Sequence[Mapping[str, Any]], since: datetime) -> int:
    """Return the largest number of simultaneous jobs among those that ended since a time; 0 if none has."""
    edges: list[tuple[datetime, int]] = []
    for entry in finished:
        if (ended := datetime.fromisoformat(entry["ended"])) >= since:
            edges += [(datetime.fromisoformat(entry["started"]), 1), (ended, -1)]
    most = now = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def room_for(overview: Overview, since: datetime, most: int | None = None) -> Room:
    """Return the room for simultaneous jobs: on Slurm as many as were seen to run, on this machine its cores.

    Args:
        overview: state of the run.
        since: when it started.
        most: maximum number of jobs submitted at once, if known.
    """
    running = overview.counts()[RUNNING]
    if most is None and not any(s.slurm for s in overview.states if s.state in (RUNNING, QUEUED)):
        return Room(cores=cores())
    seen = max(running, at_once(overview.finished, since))
    return Room(jobs=seen or most or 1)


def time_left(overview: Overview, todo: Sequence[Job], room: Room, since: datetime | None = None) -> float:
    """Estimate the seconds until jobs are done, from measured times or the table of costs, and from the run's pace so far.

    Args:
        overview: state of the run.
        todo: the jobs.
        room: room for simultaneous jobs.
        since: when the run started; None if there is none, and so no pace.
    """
    jobs = [s.job for s in overview.states]
    estimates = the_workflow().needs(overview.config, jobs, overview.results, cores(), None if room.cores < inf else 1)
    needs = needs_of(jobs, estimates)
    now, wanted = datetime.now(UTC), set(todo)
    elapsed = {s.job: (now - s.since).total_seconds() for s in overview.states if s.state == RUNNING and s.since}
    pace = _pace(overview, since, needs, room, elapsed) if since else 1.0
    paced = {job: Need(pace * need.seconds, need.cores, need.gpus) for job, need in needs.items()}
    # a job that has exceeded its estimate is not necessarily about to end
    ran = {job: min(seconds, (1 - OVERDUE) * paced[job].seconds) for job, seconds in elapsed.items() if job in wanted}
    return makespan(todo, paced, room, ran)


def _pace(overview: Overview, since: datetime, needs: Mapping[Job, Need], room: Room, elapsed: Mapping[Job, float]) -> float:
    """Return the ratio of actual to estimated time so far, due to job starts, time in the queue, or a busy machine. At least 1."""
    ended = ended_since(overview, since)
    if len(ended) < STEADY:
        return 1.0
    past = [s.job for s in overview.states if s.job in ended or s.job in elapsed]
    took = {job: Need(elapsed[job], needs[job].cores, needs[job].gpus) if job in elapsed else needs[job] for job in past}
    estimated = makespan(past, took, room)
    return min(SLOWEST, max(1.0, (datetime.now(UTC) - since).total_seconds() / estimated)) if estimated else 1.0


def ended_since(overview: Overview, since: datetime) -> set[Job]:
    """Return the jobs that were completed since a time."""
    paths = {o["path"] for e in overview.finished if datetime.fromisoformat(e["ended"]) >= since for o in e["outputs"]}
    return {s.job for s in overview.states if any(name in paths for name in s.job.outputs)}


def to_do(overview: Overview) -> list[Job]:
    """Return the jobs that are not done."""
    return [s.job for s in overview.states if s.state != DONE]


def time_left_sentence(overview: Overview, since: datetime, on_slurm: bool = False) -> str:
    """Format `about 6 min left with 4 at a time`; empty if nothing is left."""
    todo = to_do(overview)
    if not todo:
        return ""
    room = room_for(overview, since, 1 if on_slurm else None)
    places = f"{int(room.jobs)} at a time" if room.cores == inf else f"{int(room.cores)} cores"
    queue = ", excluding time in the queue" if overview.slurm and room.cores == inf else ""
    return f"about {duration(time_left(overview, todo, room, since))} left with {places}{queue}"


class Progress(threading.Thread):
    """Thread that prints a line a minute during a run, if anything has changed; ends with the process, or when stopped.

    An error in it must not affect the run: it only stops the printing.

    Args:
        config: the experiment.
        results: its results tree.
        folder: folder that Snakemake runs in.
        chosen: jobs that the run sets out to do, including those that are done, but by other code or settings.
        most: maximum number of jobs submitted to a cluster at once; None if only this machine is used.
        interval: time between two lines (s).
        out: stream for the lines.
    """

    def __init__(
        self,
        config: Experiment,
        results: Path,
        folder: Path,
        chosen: Collection[Job],
        most: int | None = None,
        interval: float = INTERVAL,
        out: TextIO | None = None,
    ) -> None:
        super().__init__(daemon=True, name="progress")
        self.config, self.results, self.folder, self.chosen, self.most = config, results, folder, chosen, most
        self.interval, self.out = interval, out or sys.stderr
        self.started = datetime.now(UTC)
        self._end = threading.Event()

    def run(self) -> None:
        """Print lines until stopped."""
        shown = ""
        while not self._end.wait(self.interval):
            try:
                line = self.line()
            except Exception:
                return
            if line != shown and not self._end.is_set():
                self.out.write(f"[{datetime.now():%H:%M}] {line}\n")
                self.out.flush()
            shown = line

    def stop(self) -> None:
        """Stop printing."""
        self._end.set()

    def line(self) -> str:
        """Format `37 of 98 jobs done, 4 running, 1 failed; about 6 min left`."""
        overview = survey(self.config, self.results, self.folder, explain=False)
        now = ended_since(overview, self.started)
        todo = [job for job in self.chosen if job not in now]
        counts = overview.counts()
        failed = sum(s.state == FAILED and s.since is not None and s.since >= self.started for s in overview.states)
        parts = [f"{len(self.chosen) - len(todo)} of {len(self.chosen)} jobs done"]
        parts += [f"{n} {name}" for n, name in ((counts[RUNNING], "running"), (counts[QUEUED], "queued"), (failed, "failed")) if n]
        again = {s.job for s in overview.states if s.state == FAILED}  # a retried job will soon be queued
        todo_now = [job for job in todo if job not in again]
        left = time_left(overview, todo_now, room_for(overview, self.started, self.most), self.started) if todo_now else 0.0
        return f"{', '.join(parts)}" + (f"; about {duration(left)} left" if todo_now else "")
