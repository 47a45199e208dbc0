"""What Snakemake calls when a run starts and when it ends. Whatever takes long to import is imported then, not when rules are read."""

from __future__ import annotations

import atexit
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boldscribe.config import Config
    from boldscribe.operations.progress import Progress

_progress: list[Progress] = []


def begin(config: Config, folder: Path, logs: Sequence[str], most: int | None, quiet: Collection[object] | None) -> None:
    """When a run starts: print how far it is, once a minute, unless Snakemake is asked to be quiet about that.

    Args:
        config: the experiment.
        folder: that Snakemake runs in.
        logs: Snakemake's own.
        most: jobs that may be submitted to a cluster at a time; None where none is used.
        quiet: what Snakemake is to say nothing about (`--quiet`).
    """
    from boldscribe.operations.progress import Progress

    progress = Progress(config, Path(config.paths.results), folder, Path(logs[0]) if logs else None, most)
    _progress[:] = [progress]
    atexit.register(progress.stop)  # nothing is to be written while the interpreter ends
    if not {"ALL", "PROGRESS"} & {getattr(q, "name", str(q)).upper() for q in quiet or ()}:
        progress.start()


def succeed(config: Config, folder: Path) -> None:
    """When all jobs are done: what was made, how long it took, what comes next."""
    from boldscribe.operations.messages import success_message
    from boldscribe.operations.status import survey

    _tell(success_message(survey(config, Path(config.paths.results), folder, explain=False), _started()))


def fail(config: Config, folder: Path) -> None:
    """When a job failed: which, why, and what to do."""
    from boldscribe.operations.messages import failure_message
    from boldscribe.operations.status import survey

    _tell(failure_message(survey(config, Path(config.paths.results), folder), _started()))


def _started() -> datetime:
    """When the run started; progress ends here."""
    if not _progress:
        return datetime.now(UTC)
    _progress[0].stop()
    return _progress[0].started


def _tell(message: str) -> None:
    from boldscribe.operations.messages import notify

    print(f"\n{message}\n", flush=True)
    notify(message)
