"""Early exit of a job: on a signal, a training run saves its state after the current step and resumes in a later job.

SIGURG (`sbatch --signal=URG@SECONDS`) announces the time limit, and the training run is requeued. Where Slurm refuses that, and outside
Slurm, it ends with exit code 75, and Snakemake's `retries` start a new attempt. Shells, `tee` and Snakemake ignore SIGURG, and so does
every step that is not a training run. SIGTERM means that the job was preempted, after which Slurm requeues it, or cancelled on purpose.
In both cases the ledger records `preempted`, since nothing has failed (docs/preemption.md).
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

from boldscribe.machinery.errors import Preempted

SCONTROL_TIMEOUT = 60  # s
LAST_TO_END = 60  # s that the other processes of a training run wait for the first one to end

_pending: signal.Signals | None = None


def exit_on_sigterm() -> None:
    """Make SIGTERM end this process by `Preempted`, so that open resources are closed and the ledger records the exit."""
    signal.signal(signal.SIGTERM, _end)


@contextmanager
def handling_signals() -> Iterator[None]:
    """Handle SIGURG from here on, even before a training run has reached its first step."""
    with _handled(signal.SIGURG):
        yield


@contextmanager
def deferring_signals() -> Iterator[None]:
    """Defer SIGTERM as well as SIGURG; `pending_signal` reports both."""
    with _handled(signal.SIGTERM), _handled(signal.SIGURG):
        yield


def pending_signal() -> signal.Signals | None:
    """Return the signal that asked this process to exit early, SIGTERM before SIGURG; None if there was none."""
    return _pending


def exit_early(number: signal.Signals, gained: bool) -> NoReturn:
    """Exit by `Preempted`; further signals do not interrupt what is still to be written.

    Raises:
        Preempted: always.
    """
    for ignored in (signal.SIGTERM, signal.SIGURG):
        signal.signal(ignored, signal.SIG_IGN)
    redirect_closed_pipes()
    raise Preempted(number, gained)


def requeue(preempted: Preempted) -> None:
    """Ask Slurm to requeue this job if it exited for the time limit and made progress; without progress it would never finish."""
    log = logging.getLogger(__name__)
    if preempted.number is not signal.SIGURG:
        return
    if not preempted.gained:
        log.warning("no step was completed before the time limit approached: not requeued; such a job needs a longer `runtime`")
    elif job := os.environ.get("SLURM_JOB_ID"):
        command = ["scontrol", "requeue", job]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SCONTROL_TIMEOUT)
            refused = done.stderr.strip() if done.returncode else None
        except (OSError, subprocess.TimeoutExpired) as error:
            refused = str(error)
        if refused is None:
            log.info("Slurm requeues job %s", job)
        else:
            log.warning("Slurm does not requeue job %s: %s", job, refused)


def wait_for_first_process() -> None:
    """Wait for the first process of a training run, which saves and records for all; the launcher then ends this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(LAST_TO_END)


class Tolerant:
    """Text stream whose reader may die: what cannot be written is dropped. `tee` dies of the SIGTERM that asks a training run to exit."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it if the pipe is closed."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            redirect_closed_pipes()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop the buffer if the pipe is closed."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            redirect_closed_pipes()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redirect_closed_pipes() -> None:
    """Redirect standard output and error to the null device if they are pipes without a reader, where writing would fail."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            number = stream.fileno() if stream is not None else -1
            poll = select.poll()
            poll.register(number, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        except (OSError, ValueError):  # closed, or not a file
            continue


def _end(number: int, frame: FrameType | None) -> None:
    exit_early(signal.Signals(number), gained=False)


def _note(number: int, frame: FrameType | None) -> None:
    global _pending
    if _pending is not signal.SIGTERM:
        _pending = signal.Signals(number)


@contextmanager
def _handled(number: signal.Signals) -> Iterator[None]:
    """Handle the signal by `_note` in this block; afterwards restore the previous handler, unless `exit_early` has been called."""
    global _pending
    before = signal.signal(number, _note)
    try:
        yield
    finally:
        if signal.getsignal(number) is _note:
            signal.signal(number, before)
        if before is not _note:
            _pending = None
