"""`boldscribe status` as a table: subject × stage of each data set, next to its other stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from boldscribe.machinery.registry import the_workflow
from boldscribe.machinery.runs.schedule import duration
from boldscribe.machinery.runs.status import DONE, FAILED, QUEUED, RUNNING, WAITING, Overview, State

STYLES = {DONE: "green", RUNNING: "cyan", QUEUED: "yellow", FAILED: "red", WAITING: "dim"}


def render(overview: Overview, sentences: Sequence[str]) -> RenderableType:
    """Render the whole table, with sentences about the run above it."""
    parts: list[RenderableType] = [*(escape(s) for s in sentences), ""]
    datasets = dict.fromkeys(s.job.whole for s in overview.states if s.job.whole)
    for dataset in datasets:
        own = [s for s in overview.states if s.job.whole == dataset]
        parts += [_stages(dataset, [s for s in own if not s.job["subject"]], overview), _subjects(own, overview)]
    parts.append(_stages("all data sets", [s for s in overview.states if not s.job.whole], overview))
    return Group(*parts)


def _stages(title: str, states: Sequence[State], overview: Overview) -> Table:
    """Render the stages without subjects, one line each."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column("stage", no_wrap=True, min_width=18)
    table.add_column("state", overflow="fold")
    for rule in dict.fromkeys(s.job.rule for s in states):
        table.add_row(rule, cell([s for s in states if s.job.rule == rule], overview.unnamed.get(rule, 0)))
    return table


def _subjects(states: Sequence[State], overview: Overview) -> Table:
    """Render the stages of subjects, one row per subject."""
    own = [s for s in states if s.job["subject"]]
    rules = list(dict.fromkeys(s.job.rule for s in own))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("subject", no_wrap=True)
    titles = the_workflow().titles
    for rule in rules:
        table.add_column(titles.get(rule, rule), overflow="fold")
    for subject in dict.fromkeys(s.job["subject"] for s in own):
        found = [[s for s in own if s.job.rule == rule and s.job["subject"] == subject] for rule in rules]
        table.add_row(subject, *(cell(f) if f else "" for f in found))
    return table


def cell(states: Sequence[State], unnamed: int = 0, now: datetime | None = None) -> str:
    """Format the state of a job, or of several jobs of a stage.

    Args:
        states: their states.
        unnamed: number of further waiting array tasks that are not identified.
        now: time from which ages are computed.
    """
    now = now or datetime.now(UTC)
    if len(states) == 1 and not unnamed:
        return _paint(states[0].state, _one(states[0], now))
    counts = Counter(s.state for s in states)
    parts = [_paint(DONE if counts[DONE] == len(states) else WAITING, f"{counts[DONE]} of {len(states)}")]
    if counts[DONE] == len(states):
        parts.append(_paint(DONE, _age([s for s in states if s.since], now)))
    parts += [_paint(RUNNING, f"{counts[RUNNING]} running")] if counts[RUNNING] else []
    queued = [s for s in states if s.state == QUEUED]
    if queued or unnamed:
        reasons = ", ".join(name for name, _ in Counter(s.reason for s in queued if s.reason).most_common(2))
        parts.append(_paint(QUEUED, f"{len(queued) + unnamed} queued" + (f" ({reasons})" if reasons else "")))
    causes = Counter(s.failure.cause.name for s in states if s.failure)
    parts += [_paint(FAILED, f"{n} failed: {name}") for name, n in causes.items()]
    return ", ".join(p for p in parts if p)


def _one(state: State, now: datetime) -> str:
    since = duration(max(0.0, (now - state.since).total_seconds())) if state.since else ""
    if state.state == RUNNING:
        return " ".join(filter(None, ["running", f"{since}", f"on {state.node}" if state.node else "here"]))
    if state.state == QUEUED:
        starts = f", from {state.starts.astimezone():%d %b %H:%M}" if state.starts and state.starts > now else ""
        return f"queued {since} ({state.reason}{starts})"
    if state.failure is not None:
        return f"failed: {state.failure.cause.name}, {since} ago"
    return f"{state.state} {since} ago" if since else state.state


def _age(states: Sequence[State], now: datetime) -> str:
    newest = max((s.since for s in states if s.since), default=None)
    return f"{duration(max(0.0, (now - newest).total_seconds()))} ago" if newest else ""


def _paint(state: str, text: str) -> str:
    return f"[{STYLES[state]}]{escape(text)}[/]" if text else ""


def as_json(overview: Overview) -> dict[str, Any]:
    """Return the table as JSON, for programs: each job with its state."""
    return {
        "results": str(overview.results),
        "slurm": overview.slurm,
        "counts": dict(overview.counts()),
        "queued_tasks_of_arrays": dict(overview.unnamed),
        "jobs": [
            {
                "rule": s.job.rule,
                "wildcards": dict(s.job.wildcards),
                "state": s.state,
                "since": s.since.isoformat() if s.since else None,
                "node": s.node,
                "reason": s.reason,
                "starts": s.starts.isoformat() if s.starts else None,
                "slurm": s.slurm,
                "cause": s.failure.cause.name if s.failure else None,
            }
            for s in overview.states
        ],
    }
