"""Controllers, one per folder: the Snakemake that submits the folder's jobs, and what it leaves behind when it is killed.

A running controller holds a file-system lock, which ends with its process, and records its identity next to it. From this the next
controller sees whether Snakemake's own lock, which outlives a killed process, is stale. It also checks Slurm's queue for orphaned jobs.
Pending ones are cancelled. Running ones are waited for, since otherwise a second job would be started for the same file.
"""

from __future__ import annotations

import atexit
import fcntl
import getpass
import json
import os
import shlex
import shutil
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from boldscribe.machinery.cluster.queue import QueuedJob, cancel, jobs_of
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import write_json

ASKED = 20  # queries of the queue before giving up
_held: list[IO[str]] = []  # the lock, held for as long as this process lives


def look_around(folder: Path, tell: Any = sys.stderr) -> None:
    """Before a run or a dry run, report a controller that is active in the folder, or remove the stale lock of a dead one.

    Args:
        folder: the working directory that contains `.snakemake`.
        tell: stream for the message.
    """
    known = _known(folder)
    if known is None:
        return
    who = f"process {known['process']} on {known['host']}, of {known['user']}, since {known['since']} (`{known['command']}`)"
    if _is_held(folder):
        print(
            f"A Snakemake is already running in {folder}: {who}. Its lock prevents a second run of the same files; wait for it to finish, "
            f"or stop it there with `kill -INT {known['process']}`, which also ends its jobs. Dry runs and read-only commands are safe.",
            file=tell,
        )
    elif known["host"] == socket.gethostname():
        shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)
        _path(folder).unlink(missing_ok=True)
        print(f"An earlier Snakemake was killed here: {who}. Its lock has been removed; this run continues from its results.", file=tell)
    else:
        print(
            f"An earlier Snakemake did not exit cleanly, or is still running on another machine: {who}. If it is not running there, "
            "`snakemake --unlock` removes its lock.",
            file=tell,
        )


def take_over(folder: Path, on_slurm: bool = False, pause: float = 15, tell: Any = sys.stderr) -> None:
    """Take the lock at the start of a run, and wait for jobs that an earlier controller left running.

    Snakemake's own lock is already held, so another controller that is active here makes other files; its jobs are left alone.

    Args:
        folder: the working directory.
        on_slurm: whether jobs will be submitted, so that the queue has to answer.
        pause: time between queries of the queue (s).
        tell: stream for messages.

    Raises:
        UserError: the queue does not answer.
    """
    lock = _path(folder).with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return
    _held[:] = [lock]
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    about = {"process": os.getpid(), "host": socket.gethostname(), "user": getpass.getuser(), "since": since, "command": command}
    write_json(_path(folder), about)
    atexit.register(leave, folder)
    if _wait_for_orphans(folder, on_slurm, pause, tell):
        print("They have ended; planning the remaining jobs again.", file=tell, flush=True)
        shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)
        leave(folder)
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


def at_work(folder: Path) -> dict[str, Any] | None:
    """Return the active controller of a folder: `process`, `host`, `user`, `since` and `command`; None if there is none."""
    return _known(folder) if _is_held(folder) else None


def running_since(folder: Path) -> datetime | None:
    """Return when the active controller of a folder started, which may be this process; None if there is none."""
    about = _about(folder) if _is_held(folder) else None
    return datetime.fromisoformat(about["since"]) if about else None


def leave(folder: Path) -> None:
    """Release the folder at the end of a run, however it ends (except by SIGKILL)."""
    if _held:
        _path(folder).unlink(missing_ok=True)
    while _held:
        _held.pop().close()


def _wait_for_orphans(folder: Path, on_slurm: bool, pause: float, tell: Any) -> bool:
    """Wait for orphaned jobs; return whether any were running, since the plan does not know their outputs."""

    def queued() -> list[QueuedJob]:
        for _ in range(ASKED if on_slurm else 1):
            if (jobs := jobs_of(folder)) is not None:
                return jobs
            time.sleep(pause if on_slurm else 0)
        if on_slurm:
            raise UserError("squeue", "no answer, so jobs of an earlier run may still be running; run again when Slurm answers")
        return []

    waiting = [job for job in queued() if job.waits]
    if waiting:
        cancel(waiting)
        print(f"Removed from Slurm's queue, to be submitted again: {_names(waiting)}, left by an earlier run.", file=tell)
    shown = None
    while running := [job for job in queued() if not job.waits]:
        if shown != (shown := [job.id for job in running]):
            print(
                f"Waiting for {len(running)} job(s) that an earlier run left running: {_names(running)}. To cancel them instead: scancel "
                + " ".join(job.id for job in running),
                file=tell,
                flush=True,
            )
        time.sleep(pause)
    return shown is not None


def _names(jobs: list[QueuedJob], shown: int = 5) -> str:
    some = ", ".join(f"{job.comment.removeprefix('rule_').replace('_wildcards_', ' ')} ({job.id})" for job in jobs[:shown])
    return some + (f" and {len(jobs) - shown} more" if len(jobs) > shown else "")


def _path(folder: Path) -> Path:
    return folder / ".snakemake" / "controller.json"


def _known(folder: Path) -> dict[str, Any] | None:
    about = _about(folder)
    return about if about and about["process"] != os.getpid() else None


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(_path(folder).read_text())
        return content if content["process"] else None
    except (OSError, ValueError, KeyError):
        return None


def _is_held(folder: Path) -> bool:
    try:
        with _path(folder).with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
