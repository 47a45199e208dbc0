"""Hooks that Snakemake calls when a run starts and ends. Slow imports happen in the hooks, not when rules are read."""

from __future__ import annotations

import atexit
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boldscribe.machinery.configuration import Experiment
    from boldscribe.machinery.runs.jobs import Job
    from boldscribe.machinery.runs.progress import Progress

_progress: list[Progress] = []


def begin(config: Experiment, folder: Path, chosen: Sequence[Job], most: int | None, quiet: Collection[object] | None) -> None:
    """Start printing progress once a minute, unless Snakemake is asked to be quiet about it.

    Args:
        config: the experiment.
        folder: folder that Snakemake runs in.
        chosen: jobs that the run sets out to do.
        most: maximum number of jobs submitted to a cluster at once; None without a cluster.
        quiet: what Snakemake must not report (`--quiet`).
    """
    from boldscribe.machinery.runs.progress import Progress

    progress = Progress(config, Path(config.paths.results), folder, chosen, most)
    _progress[:] = [progress]
    atexit.register(progress.stop)  # nothing may be written while the interpreter shuts down
    if not {"ALL", "PROGRESS"} & {getattr(q, "name", str(q)).upper() for q in quiet or ()}:
        progress.start()


def succeed(config: Experiment, folder: Path) -> None:
    """Report a run whose jobs are all done: what was made, how long it took, what comes next."""
    from boldscribe.machinery.runs.messages import success_message
    from boldscribe.machinery.runs.status import survey

    _tell(success_message(survey(config, Path(config.paths.results), folder, explain=False), _started()))


def fail(config: Experiment, folder: Path) -> None:
    """Report the failed jobs of a run, why they failed, and what to do."""
    from boldscribe.machinery.runs.messages import failure_message
    from boldscribe.machinery.runs.status import survey

    _tell(failure_message(survey(config, Path(config.paths.results), folder), _started()))


def _started() -> datetime:
    """Stop printing progress, and return when the run started."""
    if not _progress:
        return datetime.now(UTC)
    _progress[0].stop()
    return _progress[0].started


def _tell(message: str) -> None:
    from boldscribe.machinery.runs.messages import notify

    print(f"\n{message}\n", flush=True)
    notify(message)
