"""How far a run is and how long it will take: for `boldscribe status`, and a line each minute while Snakemake runs."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, TextIO

from boldscribe.config import Config
from boldscribe.operations.jobs import Job
from boldscribe.operations.logs import planned_jobs
from boldscribe.operations.schedule import Need, Room, duration, makespan, needs_of
from boldscribe.operations.status import DONE, FAILED, QUEUED, RUNNING, Overview, survey
from boldscribe.planning.stages import stage_lines
from boldscribe.processes import cores

INTERVAL = 60.0  # seconds between two lines
STEADY = 5  # jobs after which a run's pace is believed
OVERDUE = 0.2  # part of its time that a job is thought to have left at least
SLOWEST = 10.0  # times the time that was reckoned


def at_once(finished: Sequence[Mapping[str, Any]], since: datetime) -> int:
    """The most jobs that ran at the same time, of those that ended since; 0 where none has."""
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
    """What there is for jobs at the same time: on Slurm as many as are seen to run, on this machine its cores.

    Args:
        overview: where the run stands.
        since: when it started.
        most: jobs that may be submitted at a time, where that is known.
    """
    running = overview.counts()[RUNNING]
    if most is None and not any(s.slurm for s in overview.states if s.state in (RUNNING, QUEUED)):
        return Room(cores=cores())
    seen = max(running, at_once(overview.finished, since))
    return Room(jobs=seen or most or 1)


def time_left(overview: Overview, todo: Sequence[Job], room: Room, since: datetime | None = None) -> float:
    """Seconds until jobs are done, by what such jobs took, here or by the table of costs, and at the pace of the run so far.

    Args:
        overview: where the run stands.
        todo: the jobs.
        room: for how many there is room at a time.
        since: when the run started; None if there is none, and so no pace.
    """
    lines = stage_lines(overview.config, overview.results, cores(), None if room.cores < inf else 1)
    needs = needs_of([s.job for s in overview.states], lines)
    now, wanted = datetime.now(UTC), set(todo)
    elapsed = {s.job: (now - s.since).total_seconds() for s in overview.states if s.state == RUNNING and s.since}
    pace = _pace(overview, since, needs, room, elapsed) if since else 1.0
    paced = {job: Need(pace * need.seconds, need.cores, need.gpus) for job, need in needs.items()}
    # a job that has taken longer than was reckoned is not about to end for that
    ran = {job: min(seconds, (1 - OVERDUE) * paced[job].seconds) for job, seconds in elapsed.items() if job in wanted}
    return makespan(todo, paced, room, ran)


def _pace(overview: Overview, since: datetime, needs: Mapping[Job, Need], room: Room, elapsed: Mapping[Job, float]) -> float:
    """By how much longer than reckoned the run has taken so far: for starts of jobs, time in the queue, a busy machine. At least 1."""
    ended = ended_since(overview, since)
    if len(ended) < STEADY:
        return 1.0
    past = [s.job for s in overview.states if s.job in ended or s.job in elapsed]
    took = {job: Need(elapsed[job], needs[job].cores, needs[job].gpus) if job in elapsed else needs[job] for job in past}
    reckoned = makespan(past, took, room)
    return min(SLOWEST, max(1.0, (datetime.now(UTC) - since).total_seconds() / reckoned)) if reckoned else 1.0


def ended_since(overview: Overview, since: datetime) -> set[Job]:
    """Jobs that were completed since a time."""
    paths = {o["path"] for e in overview.finished if datetime.fromisoformat(e["ended"]) >= since for o in e["outputs"]}
    return {s.job for s in overview.states if any(name in paths for name in s.job.outputs)}


def to_do(overview: Overview) -> list[Job]:
    """Jobs that are not done."""
    return [s.job for s in overview.states if s.state != DONE]


def time_left_sentence(overview: Overview, since: datetime, on_slurm: bool = False) -> str:
    """`about 6 min left with 4 jobs at a time`; empty where nothing is left."""
    todo = to_do(overview)
    if not todo:
        return ""
    room = room_for(overview, since, 1 if on_slurm else None)
    places = f"{int(room.jobs)} at a time" if room.cores == inf else f"{int(room.cores)} cores"
    queue = ", time in the queue aside" if overview.slurm and room.cores == inf else ""
    return f"about {duration(time_left(overview, todo, room, since))} left with {places}{queue}"


class Progress(threading.Thread):
    """Prints a line a minute while a run goes, if anything has changed; ends with the process, or when told to.

    Whatever goes wrong in it is none of the run's business: then no further line comes.

    Args:
        config: the experiment.
        results: its tree.
        folder: that Snakemake runs in.
        log: Snakemake's, which says how many jobs of each rule it has set out to run; None where there is none.
        most: jobs that may be submitted to a cluster at a time; None on this machine alone.
        interval: between two lines (s).
        out: where they go.
    """

    def __init__(
        self,
        config: Config,
        results: Path,
        folder: Path,
        log: Path | None = None,
        most: int | None = None,
        interval: float = INTERVAL,
        out: TextIO | None = None,
    ) -> None:
        super().__init__(daemon=True, name="progress")
        self.config, self.results, self.folder, self.log, self.most = config, results, folder, log, most
        self.interval, self.out = interval, out or sys.stderr
        self.started = datetime.now(UTC)
        self._end = threading.Event()

    def run(self) -> None:
        """Until it is told to stop."""
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
        """Say no more."""
        self._end.set()

    def line(self) -> str:
        """`37 of 98 jobs done, 4 running, 1 failed; about 6 min left`."""
        overview = survey(self.config, self.results, self.folder, explain=False)
        todo, total = self.split(overview)
        counts = overview.counts()
        failed = sum(s.state == FAILED and s.since is not None and s.since >= self.started for s in overview.states)
        parts = [f"{total - len(todo)} of {total} jobs done"]
        parts += [f"{n} {name}" for n, name in ((counts[RUNNING], "running"), (counts[QUEUED], "queued"), (failed, "failed")) if n]
        again = {s.job for s in overview.states if s.state == FAILED}  # if it is tried again, it will be queued before long
        todo_now = [job for job in todo if job not in again]
        left = time_left(overview, todo_now, room_for(overview, self.started, self.most), self.started) if todo_now else 0.0
        return f"{', '.join(parts)}" + (f"; about {duration(left)} left" if todo_now else "")

    def split(self, overview: Overview) -> tuple[list[Job], int]:
        """Jobs of this run that are left to do, and how many it has in all.

        Snakemake's log says how many of each rule it has set out to run: also such as are done, but by other code or settings.
        """
        now = ended_since(overview, self.started)
        left = [s.job for s in overview.states if s.state != DONE]
        planned = planned_jobs(self.log)
        if not planned:
            return left, len(left) + len(now)
        again = Counter(job.rule for job in now)
        todo: list[Job] = []
        for rule, number in planned.items():
            wanted = max(0, number - again[rule])
            unfinished = [job for job in left if job.rule == rule]
            others = [s.job for s in overview.states if s.job.rule == rule and s.state == DONE and s.job not in now]
            todo += (unfinished + others)[:wanted]
        order = {s.job: i for i, s in enumerate(overview.states)}
        return sorted(todo, key=lambda job: order[job]), sum(planned.values())
