"""Redaction of all that must not reach a record: secrets, licence paths, home directories, host and user names."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
SHORTEST_SECRET = 8  # characters; a shorter value is more likely a switch than a secret
LICENCE_VARIABLES = ("FS_LICENSE", "FS_LICENCE")
LICENCE_KEYS = ("freesurfer_license",)


def redact(content: Any) -> Any:
    """Return the JSON content with everything private replaced by a placeholder, in all strings and keys."""
    return _redacted(content, _private_values())


def _redacted(content: Any, private: Sequence[tuple[str, re.Pattern[str], str]]) -> Any:
    if isinstance(content, str):
        for value, pattern, placeholder in private:
            if value in content:
                content = pattern.sub(placeholder, content)
        return content
    if isinstance(content, Mapping):
        return {
            _redacted(str(k), private): "[licence]" if v and str(k).endswith(LICENCE_KEYS) else _redacted(v, private)
            for k, v in content.items()
        }
    if isinstance(content, list | tuple):
        return [_redacted(item, private) for item in content]
    return content


def _private_values() -> list[tuple[str, re.Pattern[str], str]]:
    """Return (private text, search pattern, placeholder), the most sensitive first."""
    licences = [(os.environ[name], "[licence]") for name in LICENCE_VARIABLES if os.environ.get(name)]
    secrets = [(value, "[secret]") for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET]
    return [(value, _pattern(value, placeholder), placeholder) for value, placeholder in (*licences, *sorted(secrets), *_names())]


@cache
def _names() -> tuple[tuple[str, str], ...]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = ""
    home = str(Path.home())
    return tuple((value, f"[{kind}]") for kind, value in (("home", home), ("host", socket.gethostname()), ("user", user)) if len(value) > 1)


@cache
def _pattern(value: str, placeholder: str) -> re.Pattern[str]:
    """Match secrets and licences anywhere, but names and the home folder only as whole words, so that other words stay intact."""
    anywhere = placeholder in ("[secret]", "[licence]")
    return re.compile(re.escape(value) if anywhere else rf"(?<![\w.-]){re.escape(value)}(?![\w-])")


def restore(path: str) -> Path:
    """Resolve a path of a record on this machine, where its placeholders may stand for other folders."""
    for value, placeholder in _names():
        path = path.replace(placeholder, value)
    return Path(path)
