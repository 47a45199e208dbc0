"""The network is for fetching alone: an attempt by any other step is an error that names the step and what to fetch.

Python reports each connection that its own code asks for. Loopback and sockets of the file system are left alone, since processes
that train together, and the workflow's own, talk over them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any

from boldscribe.errors import UserError

VARIABLE = "BOLDSCRIBE_OFFLINE"
LOCAL_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
# what a host is asked for, by a part of its name
ASSETS = {
    "huggingface": "weights",
    "hf.co": "weights",
    "templateflow": "templates",
    "openneuro": "had",
    "docker": "containers",
}
LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex")
CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_step: list[str] = []


def is_offline() -> bool:
    """Whether the user has switched the network off, by BOLDSCRIBE_OFFLINE=1."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def forbid_network(step: str) -> None:
    """From now on, in this process, an attempt to reach another machine raises an error.

    Args:
        step: who is told to have tried.
    """
    first = not _step
    _step[:] = [step]
    # what other libraries look at, which then do not try
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    if first:
        sys.addaudithook(_hear)  # cannot be taken back


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in LOOKUPS:
        host = arguments[0]
    elif event in CONNECTIONS and arguments[0].family in (socket.AF_INET, socket.AF_INET6) and arguments[1]:
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        name = _text(host)
        asset = next((asset for part, asset in ASSETS.items() if part in name.lower()), "all")
        raise UserError(
            _step[0],
            f"found an attempt to reach {name} over the network, expected none: what a step reads is fetched beforehand; run "
            f"`boldscribe fetch {asset}` where there is a network",
        )


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host)


def _is_local(host: Any) -> bool:
    """Whether a host is this machine: loopback, its own name, or no name at all, as of a server that listens."""
    if host is None:
        return True
    name = _text(host).partition("%")[0].lower()
    if name in LOCAL_NAMES or name.partition(".")[0] == os.uname().nodename.lower().partition(".")[0]:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
