"""Network guard: only fetching may use the network; an attempt by any other step is an error that names the job and what to fetch.

There are two guards. An audit hook reports each connection that Python code requests; loopback and Unix sockets are allowed, since
distributed training and the workflow itself use them. Programs that a step starts are directed, by the proxy variables, to a proxy in
the step, which refuses all requests and reports their hosts. docs/fetching.md lists what neither guard sees.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from boldscribe.machinery.errors import UserError

VARIABLE = "BOLDSCRIBE_OFFLINE"
JOB = "BOLDSCRIBE_JOB"  # identifies the step to the Python processes that it starts
LOCAL_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
# part of a host's name → kind of asset that it provides
ASSETS = {
    "huggingface": "weights",
    "hf.co": "weights",
    "templateflow": "templates",
    "openneuro": "data",
    "docker": "containers",
}
LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex")
CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
UNREACHABLE = "http://127.0.0.1:9"  # the port of the service "discard", which nobody runs
# raised by the hub's client in offline mode, and passed on by other libraries
OFFLINE_ERRORS = ("OfflineModeIsEnabled", "LocalEntryNotFoundError")
SECONDS = 10.0  # that a program may take to send its request

log = logging.getLogger(__name__)
Advice = Callable[[str], str]


def is_offline() -> bool:
    """Return whether the user has switched the network off with BOLDSCRIBE_OFFLINE=1."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def asset_of(host: str) -> str | None:
    """Return the kind of asset that a host provides, as named in `boldscribe fetch`; None if unknown."""
    return next((asset for part, asset in ASSETS.items() if part in host.lower()), None)


def _fetch_it(host: str) -> str:
    """Return advice that does not depend on the step's configuration."""
    asset = asset_of(host)
    return f"run `boldscribe fetch {asset if asset not in (None, 'data') else 'all'}` on a login node"


class _Guard:
    """State of this process: its job, the hosts that it tried to reach, and the advice about them."""

    def __init__(self) -> None:
        self.job = ""
        self.advice: Advice = _fetch_it
        self.refused: dict[str, UserError] = {}  # host → its error

    def refuse(self, host: str) -> UserError:
        """Return the error of an attempt to reach a host."""
        if host not in self.refused:
            try:
                advice = self.advice(host)
            except Exception:  # errors in the configuration must not hide the attempt
                advice = _fetch_it(host)
            self.refused[host] = UserError(
                where(self.job),
                f"found an attempt to reach {host} over the network, expected none: the inputs of a step are fetched beforehand; {advice}",
            )
        return self.refused[host]


_guard = _Guard()


def where(job: str) -> str:
    """Return a job and the machine that it runs on, for messages."""
    return f"{job} on {os.uname().nodename}"


def forbid_network(job: str, advice: Advice = _fetch_it) -> None:
    """Make attempts to reach another machine raise an error in this process, and fail in programs that it starts.

    Args:
        job: name of the job in the error.
        advice: host → what to do, as the end of a sentence.
    """
    first = not _guard.job
    _guard.job, _guard.advice = job, advice
    os.environ[JOB] = job
    # other libraries check these variables and then do not try
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    if first:
        sys.addaudithook(_hear)  # cannot be removed
        _mislead(_refusing_proxy())


def forbid_as_parent() -> None:
    """Forbid the network in a Python process that a step has started; do nothing elsewhere."""
    if job := os.environ.get(JOB):
        forbid_network(job)


@contextmanager
def plainly() -> Iterator[None]:
    """Report errors of network attempts in the block as such, however a library has wrapped them.

    Raises:
        UserError: names the job and what to fetch; one with another cause is raised again with the attempts added.
    """
    try:
        yield
    except Exception as error:
        said = list(_guard.refused.values())
        if error in said or not (said or _is_of_offline_hub(error)):
            raise
        if isinstance(error, UserError):
            raise UserError(error.where, *error.problems, *map(str, said)) from error
        log.error("%s: %s", type(error).__name__, error)
        if not said:
            said = [_guard.refuse("huggingface.co, the model hub,")]
        if len(said) == 1:
            raise said[0] from error
        raise UserError(where(_guard.job), *(problem for one in said for problem in one.problems)) from error
    for refusal in _guard.refused.values():
        log.warning("completed, but: %s", refusal)


def _is_of_offline_hub(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is an offline error of the hub's client."""
    while error is not None:
        if type(error).__name__ in OFFLINE_ERRORS:
            return True
        error = error.__cause__ or error.__context__
    return False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in LOOKUPS:
        host = arguments[0]
    elif event in CONNECTIONS and arguments[0].family in (socket.AF_INET, socket.AF_INET6) and arguments[1]:
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        raise _guard.refuse(_text(host))


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host)


def _is_local(host: Any) -> bool:
    """Return whether a host is this machine (loopback, its own name, or no name, as for a listening server) or trains with it."""
    if host is None:
        return True
    name = _text(host).partition("%")[0].lower()
    if name in LOCAL_NAMES or name.partition(".")[0] == os.uname().nodename.lower().partition(".")[0]:
        return True
    if name == os.environ.get("MASTER_ADDR", "").lower():  # set by torchrun
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


class _Refusal(socketserver.StreamRequestHandler):
    """Handler that reads the requested host and refuses: an error for https, a closed connection for everything else."""

    timeout = SECONDS

    def handle(self) -> None:
        """Answer one request."""
        try:
            method, target, *_ = self.rfile.readline(4096).decode(errors="replace").split()
            host = urlsplit(target if "//" in target else f"//{target}").hostname or target
            while self.rfile.readline(4096).strip():  # a client that is still sending would miss the answer
                pass
        except (OSError, ValueError):
            return
        if not _is_local(host) and host not in _guard.refused:
            log.error("%s", _guard.refuse(host))
        # no answer to a plain request: its text could be mistaken for the requested file
        if method == "CONNECT":
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 403 No network in the steps of boldscribe\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True


def _refusing_proxy() -> str:
    """Start a proxy in this process that refuses everything, and return its address."""
    try:
        proxy = _Proxy(("127.0.0.1", 0), _Refusal)
    except OSError:
        return UNREACHABLE
    threading.Thread(target=proxy.serve_forever, name="refusing proxy", daemon=True).start()
    return f"http://127.0.0.1:{proxy.server_address[1]}"


def _mislead(proxy: str) -> None:
    """Direct this process's libraries, and programs that it starts, to a proxy for everything outside this machine."""
    for name in PROXIES:
        os.environ[name] = os.environ[name.upper()] = proxy
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"localhost,127.0.0.1,::1,{os.uname().nodename}"
