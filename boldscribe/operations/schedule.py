"""How long the rest of a run takes: its jobs, with what each is known to take, put where there is room for them."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from boldscribe.operations.jobs import Job, waits_for
from boldscribe.planning.costs import RULES as RULES_OF_STAGE
from boldscribe.planning.stages import Line

STAGE_OF_RULE = {rule: stage for stage, rules in RULES_OF_STAGE.items() for rule in rules}


@dataclass(frozen=True)
class Need:
    """What a job takes: wall time (s), cores, GPUs."""

    seconds: float
    cores: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class Room:
    """What there is for jobs at the same time; without limit where nothing is known."""

    jobs: float = inf
    cores: float = inf
    gpus: float = inf

    def holds(self, need: Need) -> bool:
        """Whether one more job finds room."""
        return self.jobs >= 1 and self.cores >= need.cores and self.gpus >= need.gpus

    def less(self, need: Need, sign: int = 1) -> Room:
        """What is left beside a job; with sign -1, what there is again when it ends."""
        return Room(self.jobs - sign, self.cores - sign * need.cores, self.gpus - sign * need.gpus)


def needs_of(jobs: Iterable[Job], lines: Iterable[Line]) -> dict[Job, Need]:
    """Job → what it takes, by the lines of a plan, which have measured times where jobs of its rule have run."""
    found = {(line.dataset, line.stage): Need(line.job_seconds, line.threads, line.gpus) for line in lines}
    return {job: found.get((job.whole, STAGE_OF_RULE.get(job.rule, job.rule)), Need(0.0)) for job in jobs}


def makespan(jobs: Iterable[Job], needs: Mapping[Job, Need], room: Room, elapsed: Mapping[Job, float] | None = None) -> float:
    """Seconds until all jobs have ended, if each starts as soon as those that it waits for have ended and there is room.

    Time in a queue, behind other people's jobs, is not in it: so no run is to be expected to end earlier by much.

    Args:
        jobs: those that are left to do; whatever else they would wait for has ended.
        needs: what each takes; a job that takes more cores or GPUs than there are is given all there are.
        room: what there is.
        elapsed: seconds that a job has been running for already; such jobs go first.
    """
    jobs, elapsed = list(jobs), elapsed or {}
    behind = _behind(jobs)
    waiting = dict.fromkeys(jobs, 0)
    for others in behind.values():
        for other in others:
            waiting[other] += 1
    tail = _tails(jobs, behind, needs)  # what has the longest chain behind it goes first
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
    """The jobs that follow on each other and take longest together: with however much room, a run is no shorter than they are."""
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
    """Job → those of the jobs that wait for it."""
    behind: dict[Job, list[Job]] = {job: [] for job in jobs}
    for job, others in waits_for(jobs).items():
        for other in others:
            behind[other].append(job)
    return behind


def _tails(jobs: list[Job], behind: Mapping[Job, list[Job]], needs: Mapping[Job, Need]) -> dict[Job, float]:
    """Seconds of the longest chain from each job to the end."""
    tail: dict[Job, float] = {}
    for job in reversed(jobs):  # each stands after those that it waits for
        tail[job] = needs[job].seconds + max((tail[other] for other in behind[job]), default=0.0)
    return tail


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            number = seconds / unit
            return f"{number:.1f} {name}" if unit == 3600 and number < 10 else f"{number:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
