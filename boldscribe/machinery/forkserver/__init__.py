"""A fork server: one process that imports the libraries, loads the LLM, and forks a copy for each job of a run on this machine.

Each job is still a separate step: `python -m workflow_scripts.X` finds the server of its Snakemake, forwards its command line, streams
and signals, and exits as the copy exits. The copy runs the program as usual, from its first line on, and restricts itself
(`boldscribe.machinery.steps.guard`). The server has opened only code and the models that programs share.

This half runs in the job's own process. It imports nothing from the project and little of Python, since imports are what a job costs.
"""

from __future__ import annotations

import array
import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

VARIABLE = "BOLDSCRIBE_FORK_SERVER"  # PID of the process that servers end with, and folder of their sockets
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
NVIDIA = Path("/proc/driver/nvidia")  # exists if a driver is loaded
STARTED, REFUSED = b"s", b"r"  # first reply of a server; the second is the exit status
ATTEMPTS = 3  # a server that refuses has retired; the next attempt starts another


def offer() -> None:
    """Let the jobs that this process starts from now on share servers, which end with it.

    Only on Linux (5.3 or later), where a process may fork after loading libraries, and only without a GPU, since CUDA was not shown to
    work in a forked copy.
    """
    if sys.platform != "linux" or NVIDIA.exists() or VARIABLE in os.environ:
        return
    import atexit
    import tempfile

    with suppress(OSError):  # an older kernel, or no folder for temporary files: jobs run without a server
        os.close(os.pidfd_open(os.getpid()))
        folder = tempfile.mkdtemp(prefix="boldscribe-jobs-")
        atexit.register(forget, Path(folder))
        os.environ[VARIABLE] = f"{os.getpid()}:{folder}"


def withdraw() -> None:
    """Stop offering servers to the processes that this one starts from now on."""
    os.environ.pop(VARIABLE, None)


def forget(folder: Path) -> None:
    """Remove the folder of the sockets, unless a server still runs; the last server removes it."""
    with suppress(OSError):
        for file in folder.glob("*.lock"):
            file.unlink()
        folder.rmdir()


def hand_over(module: str, arguments: list[str]) -> None:
    """Let a server run a module instead of this process, and exit as it exits; return if no server does.

    Args:
        module: its dotted name.
        arguments: its command line.
    """
    owner, _, folder = os.environ.get(VARIABLE, "").partition(":")
    if not folder or not Path(folder).is_dir():
        return
    for _ in range(ATTEMPTS):
        with suppress(OSError), _connect(Path(folder), owner) as connection:
            _ask(connection, module, arguments)
            if connection.recv(1) == STARTED:
                _end_as(connection)


def _connect(folder: Path, owner: str) -> socket.socket:
    """Connect to the server of this installation, environment and working directory; start one if there is none."""
    same = hashlib.sha256(repr([sys.prefix, str(Path.cwd()), sorted(os.environ.items())]).encode()).hexdigest()[:16]
    place = folder / same
    connection = socket.socket(socket.AF_UNIX)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(str(place))
        except OSError:
            place.unlink(missing_ok=True)
            _start(place, owner)
            connection.connect(str(place))
    return connection


def _start(place: Path, owner: str) -> None:
    import subprocess

    with socket.socket(socket.AF_UNIX) as listener, place.with_suffix(".log").open("a") as log:
        listener.bind(str(place))
        listener.listen(128)
        command = [sys.executable, "-m", f"{__name__}.server", str(listener.fileno()), owner, str(place)]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener.fileno()], start_new_session=True)


def _ask(connection: socket.socket, module: str, arguments: list[str]) -> None:
    """Send the program to run, and this process's streams."""
    ignored = [int(number) for number in HANDED_ON if signal.getsignal(number) is signal.SIG_IGN]
    request = {"module": module, "arguments": arguments, "command": sys.orig_argv, "ignored": ignored}
    connection.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    connection.sendall(json.dumps(request).encode()[1:] + b"\n")


def _end_as(connection: socket.socket) -> None:
    """Forward signals to the copy, and exit as it exits."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            connection.send(bytes([number]))

    for number in HANDED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hand_on)
    said = b"".join(iter(lambda: connection.recv(64), b""))
    status = int(said or -signal.SIGKILL)  # no reply: the server was killed, and its copies with it
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
