"""The network is for fetching alone: an attempt by any other step is an error that names the job and what to fetch.

Two guards. Python reports each connection that its own code asks for; loopback and sockets of the file system are left alone, since
processes that train together, and the workflow's own, talk over them. Programs that a step starts are pointed, by the variables
that name a proxy, to a proxy in the step itself, which lets nothing through and says who was asked for. What neither guard sees stands in
docs/fetching.md.
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

from boldscribe.errors import UserError

VARIABLE = "BOLDSCRIBE_OFFLINE"
JOB = "BOLDSCRIBE_JOB"  # tells the Python processes that a step starts whose they are
LOCAL_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
# what a host is asked for, by a part of its name
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
# what the hub's client raises where it has been told to be offline, and others hand on
OFFLINE_ERRORS = ("OfflineModeIsEnabled", "LocalEntryNotFoundError")
SECONDS = 10.0  # that a program may take to say whom it wants to reach

log = logging.getLogger(__name__)
Advice = Callable[[str], str]


def is_offline() -> bool:
    """Whether the user has switched the network off, by BOLDSCRIBE_OFFLINE=1."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def asset_of(host: str) -> str | None:
    """The kind of asset that a host is asked for, as `boldscribe fetch` calls it; None if the name does not tell."""
    return next((asset for part, asset in ASSETS.items() if part in host.lower()), None)


def _fetch_it(host: str) -> str:
    """What to do where nothing is known of the step's configuration."""
    asset = asset_of(host)
    return f"run `boldscribe fetch {asset if asset not in (None, 'data') else 'all'}` on a login node"


class _Guard:
    """What is known of this process: its job, whom it tried to reach, and what is to be done about it."""

    def __init__(self) -> None:
        self.job = ""
        self.advice: Advice = _fetch_it
        self.refused: dict[str, UserError] = {}  # host → what was said

    def refuse(self, host: str) -> UserError:
        """The error that an attempt to reach a host is."""
        if host not in self.refused:
            try:
                advice = self.advice(host)
            except Exception:  # whatever is wrong with the configuration, the attempt is the news
                advice = _fetch_it(host)
            self.refused[host] = UserError(
                where(self.job),
                f"found an attempt to reach {host} over the network, expected none: what a step reads is fetched beforehand; {advice}",
            )
        return self.refused[host]


_guard = _Guard()


def where(job: str) -> str:
    """A job and the machine that it runs on, for messages."""
    return f"{job} on {os.uname().nodename}"


def forbid_network(job: str, advice: Advice = _fetch_it) -> None:
    """From now on, in this process, an attempt to reach another machine raises an error; in programs that it starts, it fails.

    Args:
        job: who is told to have tried.
        advice: host → what to do, as the end of a sentence.
    """
    first = not _guard.job
    _guard.job, _guard.advice = job, advice
    os.environ[JOB] = job
    # what other libraries look at, which then do not try
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    if first:
        sys.addaudithook(_hear)  # cannot be taken back
        _mislead(_refusing_proxy())


def forbid_as_parent() -> None:
    """In a Python process that a step has started: as in the step itself. Does nothing elsewhere."""
    if job := os.environ.get(JOB):
        forbid_network(job)


@contextmanager
def plainly() -> Iterator[None]:
    """An error in the block that comes of an attempt to reach the network is told as such, however a library has wrapped it.

    Raises:
        UserError: names the job and what to fetch; one of another cause is handed on with the attempts added.
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
    """Whether an error, or what led to it, is the hub's client saying that it may not ask."""
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
    """Whether a host is this machine (loopback, its own name, or no name at all, as of a server that listens) or trains with it."""
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
    """Reads whom a program wants to reach, and lets it not: an error for https, the end of the connection for all else."""

    timeout = SECONDS

    def handle(self) -> None:
        """Answer one request."""
        try:
            method, target, *_ = self.rfile.readline(4096).decode(errors="replace").split()
            host = urlsplit(target if "//" in target else f"//{target}").hostname or target
            while self.rfile.readline(4096).strip():  # one who still sends would not hear the answer
                pass
        except (OSError, ValueError):
            return
        if not _is_local(host) and host not in _guard.refused:
            log.error("%s", _guard.refuse(host))
        # no answer to a plain request: its text could be taken for the file that was asked for
        if method == "CONNECT":
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 403 No network in the steps of boldscribe\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True


def _refusing_proxy() -> str:
    """Address of a proxy in this process that refuses everything."""
    try:
        proxy = _Proxy(("127.0.0.1", 0), _Refusal)
    except OSError:
        return UNREACHABLE
    threading.Thread(target=proxy.serve_forever, name="refusing proxy", daemon=True).start()
    return f"http://127.0.0.1:{proxy.server_address[1]}"


def _mislead(proxy: str) -> None:
    """Let programs that this process starts, and its own libraries, ask a proxy for whatever is not on this machine."""
    for name in PROXIES:
        os.environ[name] = os.environ[name.upper()] = proxy
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"localhost,127.0.0.1,::1,{os.uname().nodename}"
