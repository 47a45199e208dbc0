"""State of each job of a run, from its records, the ledger and the logs on disk, and from what is queued and running now."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from boldscribe.machinery.cluster import queue as slurm
from boldscribe.machinery.cluster.controller import running_since
from boldscribe.machinery.cluster.queue import QueuedJob
from boldscribe.machinery.configuration import Experiment
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.digests import record_path
from boldscribe.machinery.provenance.ledger import read_ledger
from boldscribe.machinery.registry import the_workflow
from boldscribe.machinery.runs.accounting import Account, sacct
from boldscribe.machinery.runs.causes import Evidence, diagnose
from boldscribe.machinery.runs.failures import Failure
from boldscribe.machinery.runs.jobs import Job, known_jobs
from boldscribe.machinery.runs.local_steps import Step, steps
from boldscribe.machinery.runs.logs import controller_errors, controller_log, last_attempt, tail, task_log
from boldscribe.machinery.runs.traces import Trace, time_of, trace_of, written

DONE, RUNNING, QUEUED, FAILED, WAITING = STATES = ("done", "running", "queued", "failed", "not yet")
FRESH = timedelta(minutes=1)  # a log this fresh means running: the queue may have been read earlier, or the job be on another machine
GOES_ON = ("RUNNING", "PENDING", "COMPLETING", "REQUEUED")  # states in Slurm's accounting


@dataclass(frozen=True)
class State:
    """State of a job.

    Attributes:
        job: the job.
        state: one of STATES.
        since: when it ended, started, was submitted or failed.
        node: where it runs; empty for this machine.
        reason: why it waits, in Slurm's words.
        starts: when Slurm expects it to start.
        slurm: number of its Slurm job.
        failure: why it failed.
    """

    job: Job
    state: str
    since: datetime | None = None
    node: str = ""
    reason: str = ""
    starts: datetime | None = None
    slurm: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Overview:
    """State of a run.

    Attributes:
        results: its results tree.
        config: the experiment.
        states: states of all its jobs, in execution order.
        slurm: whether Slurm was queried and answered.
        unnamed: rule → number of waiting array tasks that Slurm does not identify.
        other: jobs in the queue that were submitted from this folder but do not belong to this configuration.
        finished: ledger entries of completed jobs, oldest first.
    """

    results: Path
    config: Experiment
    states: list[State]
    slurm: bool
    unnamed: Mapping[str, int] = field(default_factory=dict)
    other: int = 0
    finished: Sequence[Mapping[str, Any]] = ()

    def counts(self) -> Counter[str]:
        """Return the number of jobs per state."""
        return Counter(s.state for s in self.states)

    def failures(self) -> list[Failure]:
        """Return all failures, in execution order."""
        return [s.failure for s in self.states if s.failure is not None]


def config_of(results: Path, configs: Sequence[Path]) -> Experiment:
    """Load the experiment from configuration files if given, else from a results tree, as merged when its run started.

    Raises:
        UserError: there is neither.
    """
    if configs:
        return the_workflow().experiment.load(*configs)
    if not (results / "config.yaml").is_file():
        raise UserError(str(results), "found no config.yaml, expected the results folder of a run; start one, or pass its --config")
    return the_workflow().experiment.load(results / "config.yaml")


def survey(config: Experiment, results: Path, folder: Path, explain: bool = True) -> Overview:
    """Determine the state of each job.

    Args:
        config: the experiment.
        results: its results tree, which need not exist yet.
        folder: folder that Snakemake runs in: it holds its logs, and its Slurm jobs were submitted from there.
        explain: query Slurm's accounting about failed jobs.
    """
    jobs = known_jobs(config, results)
    entries = ledger_entries(results)
    by_output = {name: job for job in jobs for name in job.outputs}
    completed = {by_output[o["path"]]: e for e in entries if e["exit"] == "completed" for o in e["outputs"] if o["path"] in by_output}
    failed: dict[tuple[str, frozenset[tuple[str, str]]], list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["exit"] != "completed":
            failed.setdefault((entry["rule"], frozenset(entry["wildcards"].items())), []).append(entry)
    queue, here = slurm.jobs_of(folder), steps(folder)
    placed, unnamed, other = _placed(jobs, queue or [], results)
    errors = {
        os.path.realpath(folder / key) if "/" in key else key: said for key, said in controller_errors(controller_log(folder)).items()
    }
    made: list[State] = []
    suspects: list[tuple[int, Job, Trace]] = []
    for job in jobs:
        states = [_now(job, results, placed.get(job), here), _done(job, results, completed.get(job))]
        # a job that shares a Slurm job may be done while the others wait
        state = next(filter(None, reversed(states) if job.group else states), None)
        if state is None:
            trace = trace_of(job, results, folder, failed, completed.get(job), errors)
            if trace is not None:
                suspects.append((len(made), job, trace))
            state = State(job, WAITING)
        made.append(state)
    accounts = sacct(t.slurm for _, _, t in suspects) if queue is not None and explain else {}
    unseen_since = running_since(folder) if queue is None else None
    for at, job, trace in suspects:
        made[at] = _failed(job, results, folder, trace, accounts.get(trace.slurm), unseen_since)
    finished = [e for e in entries if e["exit"] == "completed"]
    return Overview(results, config, made, queue is not None, unnamed, other, finished)


def ledger_entries(results: Path) -> list[dict[str, Any]]:
    """Return all entries, oldest first; none without a ledger. Rule `provenance` may move entries during the read, hence the retries."""
    for _ in range(3):
        try:
            return sorted(read_ledger(results).entries, key=lambda e: str(e["ended"]))
        except (FileNotFoundError, json.JSONDecodeError):
            continue
    return sorted(read_ledger(results).entries, key=lambda e: str(e["ended"]))


def _placed(jobs: Iterable[Job], queue: Sequence[QueuedJob], results: Path) -> tuple[dict[Job, QueuedJob], Counter[str], int]:
    """Match jobs to queue entries; also return waiting array tasks by rule, and the number of entries that match no job.

    All tasks of an array have the name of the first; running ones are identified by the header in their log.
    """
    if not queue:
        return {}, Counter(), 0
    by_comment: dict[str, list[Job]] = {}
    for job in jobs:
        by_comment.setdefault(job.slurm_comment(), []).append(job)
    rules = {job.rule for job in jobs}
    tasks = [q for q in queue if q.task]
    placed: dict[Job, QueuedJob] = {}
    running = {q.id: q for q in tasks if not q.waits}
    for job in (j for j in jobs if j.rule in {q.rule for q in running.values()}):
        attempt = last_attempt(results / job.log)
        if attempt is not None and attempt.slurm in running:
            placed[job] = running[attempt.slurm]
    told = {q.id for q in placed.values()}
    unnamed = Counter(q.rule for q in tasks if q.rule in rules and (q.waits or q.id not in told))
    other = sum(q.rule not in rules for q in tasks)
    for q in (q for q in queue if not q.task):
        other += q.comment not in by_comment
        for job in by_comment.get(q.comment, []):
            placed[job] = _in_turn(job, q, results) if job.group else q
    return placed, unnamed, other


def _in_turn(job: Job, queued: QueuedJob, results: Path) -> QueuedJob:
    """Return the queue entry of one of the jobs that share a Slurm job: they run in turn, and each job's log shows when it has started."""
    attempt = last_attempt(results / job.log)
    if queued.waits or (attempt is not None and attempt.slurm == queued.id):
        return queued
    return replace(queued, state="PENDING", reason=f"its turn in job {queued.id}", starts=None)


def _now(job: Job, results: Path, queued: QueuedJob | None, here: Sequence[Step]) -> State | None:
    if queued is not None and queued.waits:
        return State(job, QUEUED, queued.submitted, reason=queued.reason, starts=queued.starts, slurm=queued.id)
    if queued is not None:
        return State(job, RUNNING, queued.starts, queued.nodes, slurm=queued.id)
    output = (results / job.outputs[0]).absolute()
    for process in here:
        if process.rule == job.rule and output in process.arguments:
            return State(job, RUNNING, process.since)
    return None


def _done(job: Job, results: Path, entry: Mapping[str, Any] | None) -> State | None:
    """Return DONE if all outputs exist with their records. Whether they are up to date is checked by `boldscribe audit`."""
    paths = [results / name for name in job.outputs]
    if not all(p.exists() and record_path(p).exists() for p in paths):
        return None
    ended = time_of(entry["ended"]) if entry else written(record_path(paths[0]))
    return State(job, DONE, ended)


def _failed(job: Job, results: Path, folder: Path, trace: Trace, account: Account | None, unseen_since: datetime | None) -> State:
    """Return the state of a job that is neither queued nor done: failed, unless it goes on for all that is known.

    While Slurm does not answer, the controller that is active since `unseen_since` would report that its job failed.
    """
    slurm_log, attempt = trace.slurm_log, trace.attempt
    if attempt and not trace.exit and not trace.controller:
        fresh = datetime.now(UTC) - attempt.written < FRESH
        unseen = trace.slurm and unseen_since and attempt.started and attempt.started >= unseen_since
        if account.state in GOES_ON if account else fresh or unseen:
            return State(job, RUNNING, attempt.started or attempt.written, attempt.node, slurm=trace.slurm)
    if account is not None and "_" in account.task:
        slurm_log = task_log(folder, job.rule, account.task)
    evidence = Evidence(
        job.rule, trace.exit, trace.attempt, (tail(slurm_log) or "") if slurm_log else "", account, trace.controller, bool(job.group)
    )
    logs = tuple(p for p in (results / job.log, slurm_log) if p is not None and p.is_file() and p.stat().st_size)
    failure = Failure(job, diagnose(evidence), trace.attempts, trace.slurm, account, logs)
    return State(job, FAILED, trace.since, slurm=trace.slurm, failure=failure)
