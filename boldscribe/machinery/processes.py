"""Parallel work on many items, and the environment of started programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from boldscribe.machinery.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "NO_ET": "1",
    "MPLBACKEND": "Agg",
    # glibc returns large blocks to the kernel after each use; keeping them saves convolutions more than half of their time
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str) -> Iterator[Result]:
    """Yield a function's results in the order of the items, with a progress bar.

    Args:
        function: must be picklable, as must items and results; its first error ends the work.
        items: arguments of the calls.
        workers: number of processes; with one, the work is done in this process. Each starts a new Python (spawn), since libraries
            that run threads do not survive a fork.
        title: title of the progress bar.

    Raises:
        UserError: a process was killed.
    """
    workers = max(1, min(workers, len(items)))
    if workers == 1:
        yield from map(function, tqdm(items, title, mininterval=5))
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from tqdm(pool.map(function, items, chunksize=1 + min(15, len(items) // (8 * workers))), title, len(items), mininterval=5)
    except BrokenProcessPool:
        raise UserError(
            title, "a worker process was killed: the machine ran out of memory, or a file crashed the library that reads it"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_environment() -> None:
    """Set the environment of programs started later: this interpreter first on PATH, no telemetry, no hub, no display, cheap memory.

    Snakemake's jobs take `python` from PATH, even without an activated environment. Variables set by the user are kept.
    """
    folder = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
