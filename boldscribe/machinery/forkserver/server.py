"""The server process: `python -m boldscribe.machinery.forkserver.server LISTENER OWNER SOCKET`, started by the first job that needs one.

The first copy of a program does its own imports. Before the next copy, the server imports the same modules and loads the models that
the program shares. It serves jobs while the files that it has imported are unchanged. When its owner, a Snakemake, ends, it exits after
its running jobs.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import ROOT
from boldscribe.machinery.forkserver import HANDED_ON, REFUSED, STARTED, forget, withdraw

PR_SET_PDEATHSIG = 1


@dataclass
class Job:
    """A running copy: its process, the job that waits for it, and the file that lists its imports."""

    module: str
    pid: int
    pidfd: int
    connection: socket.socket
    imported: int


@dataclass(frozen=True)
class Request:
    """A program for a copy to run; `imported` is the file that lists its imports."""

    module: str
    arguments: list[str]
    command: list[str]
    ignored: list[int]
    imported: int


class Server:
    """A process that forks a copy of itself for each requesting job.

    Args:
        listener: socket that receives requests from jobs.
        owner: PID of the process to end with.
        place: the listener's path.

    Raises:
        ProcessLookupError: the owner has ended.
    """

    def __init__(self, listener: socket.socket, owner: int, place: Path) -> None:
        self._listener, self._place = listener, place
        self._owner = os.pidfd_open(owner)
        self._jobs: dict[int, Job] = {}
        self._to_import: dict[str, list[str]] = {}
        self._files: dict[Path, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._owner, selectors.EVENT_READ, self._retire)
        self._note_files()

    def serve(self) -> Request | None:
        """Serve until there is nothing left to do; in a copy, return the request to run."""
        while self._listener.fileno() >= 0 or self._jobs:
            for key, _ in self._selector.select():
                if key.fd in self._selector.get_map() and (request := key.data()):
                    return request
        return None

    def _accept(self) -> Request | None:
        connection, _ = self._listener.accept()
        try:
            start, streams, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as stream:
                content = json.loads(start + stream.readline())
        except (OSError, ValueError):  # the requesting job was killed
            connection.close()
            return None
        if self._is_outdated():
            self._retire()
            _answer(connection, REFUSED)
            connection.close()
            for number in streams:
                os.close(number)
            return None
        self._prepare(content["module"], content["arguments"])
        imported = os.memfd_create("imported", os.MFD_CLOEXEC)
        if (pid := os.fork()) == 0:
            connection.close()
            self._become(streams, content["ignored"])
            return Request(**content, imported=imported)
        for number in streams:
            os.close(number)
        _answer(connection, STARTED)
        job = self._jobs[pid] = Job(content["module"], pid, os.pidfd_open(pid), connection, imported)
        self._selector.register(job.pidfd, selectors.EVENT_READ, lambda: self._end(job))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(job))
        return None

    def _hear(self, job: Job) -> None:
        """Forward a signal; if the waiting job was killed, kill the copy with all that it started."""
        try:
            number = job.connection.recv(1)
        except OSError:
            number = b""
        if number:
            os.kill(job.pid, number[0])  # still exists: it is running, or has ended but is not reaped yet
            return
        self._selector.unregister(job.connection)
        with suppress(ProcessLookupError):  # it has not become a group leader yet
            os.killpg(job.pid, signal.SIGKILL)
        os.kill(job.pid, signal.SIGKILL)

    def _end(self, job: Job) -> None:
        """Report how a copy ended, and note what it imported."""
        status = os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1])
        self._selector.unregister(job.pidfd)
        with suppress(KeyError):
            self._selector.unregister(job.connection)
        _answer(job.connection, str(status).encode())
        job.connection.close()
        os.close(job.pidfd)
        with os.fdopen(job.imported) as notes:
            notes.seek(0)
            self._to_import[job.module] = notes.read().split()
        del self._jobs[job.pid]

    def _prepare(self, module: str, arguments: list[str]) -> None:
        """Import what an earlier copy of the program imported, and load what the program shares; what fails here fails in the copy, too."""
        if module not in self._to_import and module not in sys.modules:
            return
        for name in (*self._to_import.pop(module, []), module):
            _try(importlib.import_module, name)
        preload = getattr(getattr(sys.modules.get(module), "main", None), "preload", None)
        if preload is not None:
            _try(preload, arguments)
        self._note_files()
        gc.collect()
        gc.freeze()  # objects that the collector never touches stay shared

    def _note_files(self) -> None:
        """Note the times of this project's imported files and of the folders of installed packages."""
        modules = [Path(file) for m in list(sys.modules.values()) if (file := getattr(m, "__file__", None))]
        folders = [Path(folder) for folder in sys.path if Path(folder).is_relative_to(sys.prefix)]
        for path in (*(m for m in modules if m.is_relative_to(ROOT) and not m.is_relative_to(sys.prefix)), *folders):
            self._files.setdefault(path, _time_of(path))

    def _is_outdated(self) -> bool:
        return any(_time_of(path) != time for path, time in self._files.items())

    def _retire(self) -> None:
        """Stop accepting jobs."""
        if self._listener.fileno() >= 0:
            self._selector.unregister(self._listener)
            self._selector.unregister(self._owner)
            self._place.unlink(missing_ok=True)
            self._listener.close()

    def _become(self, streams: list[int], ignored: list[int]) -> None:
        """Turn a forked copy into the job's process, detached from the server and the other copies."""
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self._selector.close()
        for descriptor in (self._owner, *(job.pidfd for job in self._jobs.values())):
            os.close(descriptor)
        for opened in (self._listener, *(job.connection for job in self._jobs.values())):
            opened.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for number in HANDED_ON:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in ignored else usual)
        withdraw()


def run(request: Request) -> None:
    """Run a program as `python -m` does."""
    sys.argv, sys.orig_argv = [request.module, *request.arguments], request.command
    sys.modules.pop(request.module, None)
    atexit.register(_note_imported, request.imported, frozenset(sys.modules))
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def _note_imported(file: int, before: frozenset[str]) -> None:
    new = [name for name, module in list(sys.modules.items()) if name not in before and getattr(module, "__spec__", None)]
    os.write(file, "\n".join(new).encode())


def main() -> None:
    """Serve; in a copy, run the requested program."""
    listener, owner, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    request = None
    with suppress(ProcessLookupError):
        request = Server(socket.socket(fileno=listener), owner, place).serve()
    if request is not None:
        run(request)
        return
    for file in (place, place.with_suffix(".log")):
        file.unlink(missing_ok=True)
    forget(place.parent)


def _answer(connection: socket.socket, content: bytes) -> None:
    with suppress(OSError):  # the requesting job may have been killed
        connection.sendall(content)


def _try(function: Callable[[Any], object], argument: object) -> None:
    try:
        function(argument)
    except BaseException:
        traceback.print_exc()


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


if __name__ == "__main__":
    main()
