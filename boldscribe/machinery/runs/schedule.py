"""Estimate of how long the rest of a run takes: its jobs, with known durations, are scheduled where there is room."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from boldscribe.machinery.registry import Need
from boldscribe.machinery.runs.jobs import Job


@dataclass(frozen=True)
class Room:
    """Room for simultaneous jobs; unlimited where nothing is known."""

    jobs: float = inf
    cores: float = inf
    gpus: float = inf

    def holds(self, need: Need) -> bool:
        """Return whether one more job fits."""
        return self.jobs >= 1 and self.cores >= need.cores and self.gpus >= need.gpus

    def less(self, need: Need, sign: int = 1) -> Room:
        """Return the room left once a job starts; with sign -1, the room once it ends."""
        return Room(self.jobs - sign, self.cores - sign * need.cores, self.gpus - sign * need.gpus)


def needs_of(jobs: Iterable[Job], estimates: Mapping[tuple[str, str], Need]) -> dict[Job, Need]:
    """Map each job to its needs by its data set and rule; jobs without an estimate take no time."""
    return {job: estimates.get((job.whole, job.rule), Need(0.0)) for job in jobs}


def makespan(jobs: Iterable[Job], needs: Mapping[Job, Need], room: Room, elapsed: Mapping[Job, float] | None = None) -> float:
    """Return the seconds until all jobs have ended, if each starts as soon as its dependencies have ended and there is room.

    Time in a queue behind other people's jobs is not included, so a run can hardly end earlier than this.

    Args:
        jobs: the jobs that are left to do; all their other dependencies have ended.
        needs: needs of each job; one that needs more cores or GPUs than exist is given all of them.
        room: the available room.
        elapsed: seconds that a job has already been running; such jobs start first.
    """
    jobs, elapsed = list(jobs), elapsed or {}
    behind = _behind(jobs)
    waiting = dict.fromkeys(jobs, 0)
    for others in behind.values():
        for other in others:
            waiting[other] += 1
    tail = _tails(jobs, behind, needs)  # the job with the longest chain behind it starts first
    ready: dict[tuple[str, str], deque[Job]] = {}
    running: list[tuple[float, int, Job, Need]] = []
    clock, count = 0.0, 0

    def start(job: Job) -> None:
        nonlocal room, count
        need = needs[job]
        need = Need(max(0.0, need.seconds - elapsed.get(job, 0.0)), min(need.cores, whole_cores), min(need.gpus, whole_gpus))
        room, count = room.less(need), count + 1
        heapq.heappush(running, (clock + need.seconds, count, job, need))

    whole_cores, whole_gpus = (int(min(n, 10**9)) for n in (room.cores, room.gpus))
    for job in (j for j in jobs if j in elapsed):
        start(job)
    for job in (j for j in jobs if not waiting[j] and j not in elapsed):
        ready.setdefault((job.rule, job["dataset"]), deque()).append(job)
    while running or any(ready.values()):
        for queue in sorted(filter(None, ready.values()), key=lambda q: -tail[q[0]]):
            need = needs[queue[0]]
            while queue and room.holds(Need(0.0, min(need.cores, whole_cores), min(need.gpus, whole_gpus))):
                start(queue.popleft())
        if not running:  # no room for a single job
            return inf
        clock, _, ended, need = heapq.heappop(running)
        room = room.less(need, -1)
        for job in behind[ended]:
            waiting[job] -= 1
            if not waiting[job] and job not in elapsed:
                ready.setdefault((job.rule, job["dataset"]), deque()).append(job)
    return clock


def longest_chain(jobs: Iterable[Job], needs: Mapping[Job, Need]) -> list[Job]:
    """Return the chain of dependent jobs that takes longest: no run is shorter, however much room there is."""
    jobs = list(jobs)
    behind = _behind(jobs)
    tail = _tails(jobs, behind, needs)
    chain: list[Job] = []
    following = jobs
    while following:
        chain.append(max(following, key=lambda job: tail[job]))
        following = behind[chain[-1]]
    return chain


def _behind(jobs: list[Job]) -> dict[Job, list[Job]]:
    """Map each job to those of the jobs that wait for it."""
    behind: dict[Job, list[Job]] = {job: [] for job in jobs}
    for job in jobs:
        for other in job.before:
            behind.get(other, []).append(job)
    return behind


def _tails(jobs: list[Job], behind: Mapping[Job, list[Job]], needs: Mapping[Job, Need]) -> dict[Job, float]:
    """Return the seconds of the longest chain from each job to the end."""
    tail: dict[Job, float] = {}
    for job in reversed(jobs):  # jobs are in topological order
        tail[job] = needs[job].seconds + max((tail[other] for other in behind[job]), default=0.0)
    return tail


def duration(seconds: float) -> str:
    """Format a duration: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            number = seconds / unit
            return f"{number:.1f} {name}" if unit == 3600 and number < 10 else f"{number:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
