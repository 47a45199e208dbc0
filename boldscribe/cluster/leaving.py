"""Leaving a job before its work is done: on a signal a training saves its state after the step at hand, and goes on in a later job.

SIGURG (`sbatch --signal=URG@SECONDS`) says that the time limit is near: the training is queued again, or, where Slurm refuses that
and outside Slurm, ends with exit code 75, upon which Snakemake's `retries` start a new attempt. Shells, `tee` and Snakemake ignore
SIGURG, as does every step that is no training. SIGTERM says that the job was preempted, which Slurm queues again by itself, or
cancelled, which is meant. Either way the ledger says `left`, since nothing has failed (docs/preemption.md).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TextIO

QUEUED_AGAIN = os.EX_TEMPFAIL  # 75, "try again later"
SCONTROL_TIMEOUT = 60  # s
LAST_TO_END = 60  # s that the other processes of a training wait for the first one to end

_asked: signal.Signals | None = None


class Left(SystemExit):
    """A step that a signal ended before its work was done; no failure.

    Args:
        number: the signal.
        gained: whether the job has done steps that are saved, so that another job like it would get further.
    """

    def __init__(self, number: signal.Signals, gained: bool = False) -> None:
        self.number, self.gained = number, gained
        super().__init__(QUEUED_AGAIN if number is signal.SIGURG else 128 + number)

    def __str__(self) -> str:
        return f"left: {self.number.name}"


def end_on_sigterm() -> None:
    """Let SIGTERM end this process by `Left`, so that what is open is closed and the ledger hears of it."""
    signal.signal(signal.SIGTERM, _end)


@contextmanager
def listening() -> Iterator[None]:
    """Hear SIGURG from here on, even where a training has not come to its steps yet."""
    with _handled(signal.SIGURG):
        yield


@contextmanager
def until_the_step_ends() -> Iterator[None]:
    """Let SIGTERM wait as well: `asked` tells of both."""
    with _handled(signal.SIGTERM), _handled(signal.SIGURG):
        yield


def asked() -> signal.Signals | None:
    """The signal by which this process was asked to leave, SIGTERM before SIGURG; None if there was none."""
    return _asked


def leave(number: signal.Signals, gained: bool) -> NoReturn:
    """End by `Left`; a further signal does not interrupt what is still to be written.

    Raises:
        Left: always.
    """
    for ignored in (signal.SIGTERM, signal.SIGURG):
        signal.signal(ignored, signal.SIG_IGN)
    let_go_of_closed_pipes()
    raise Left(number, gained)


def queue_again(left: Left) -> None:
    """Ask Slurm to queue this job again, if it left for the time limit and got somewhere: otherwise it never would."""
    log = logging.getLogger(__name__)
    if left.number is not signal.SIGURG:
        return
    if not left.gained:
        log.warning("no step was done before the time limit came near: not queued again; such a job needs a longer `runtime`")
    elif job := os.environ.get("SLURM_JOB_ID"):
        command = ["scontrol", "requeue", job]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SCONTROL_TIMEOUT)
            refused = done.stderr.strip() if done.returncode else None
        except (OSError, subprocess.TimeoutExpired) as error:
            refused = str(error)
        if refused is None:
            log.info("Slurm queues job %s again", job)
        else:
            log.warning("Slurm does not queue job %s again: %s", job, refused)


def end_last() -> None:
    """Wait for the end of the first process of a training, which saves and records for all; the launcher then ends this one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(LAST_TO_END)


class Tolerant:
    """A text stream whose reader may die: what cannot be written is dropped. `tee` dies of the SIGTERM that asks a training to leave."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            let_go_of_closed_pipes()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            let_go_of_closed_pipes()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def let_go_of_closed_pipes() -> None:
    """Point standard output and error nowhere if they are pipes that nobody reads, where writing would be an error."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            number = stream.fileno() if stream is not None else -1
            poll = select.poll()
            poll.register(number, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        except (OSError, ValueError):  # closed, or no file
            continue


def _end(number: int, frame: FrameType | None) -> None:
    leave(signal.Signals(number), gained=False)


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not signal.SIGTERM:
        _asked = signal.Signals(number)


@contextmanager
def _handled(number: signal.Signals) -> Iterator[None]:
    """`_ask` handles the signal in this block, and after it what did before, unless `leave` has been called."""
    global _asked
    before = signal.signal(number, _ask)
    try:
        yield
    finally:
        if signal.getsignal(number) is _ask:
            signal.signal(number, before)
        if before is not _ask:
            _asked = None
