"""What never reaches a record: secrets, licence paths, home directories, host and user names."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
SHORTEST_SECRET = 8  # characters; a shorter value is likelier a switch than a secret
LICENCE_VARIABLES = ("FS_LICENSE", "FS_LICENCE")
LICENCE_KEYS = ("freesurfer_license",)


def redact(content: Any) -> Any:
    """The same JSON content with everything private replaced by a placeholder, in all its strings and keys."""
    if isinstance(content, str):
        return _redact_text(content)
    if isinstance(content, Mapping):
        return {_redact_text(str(k)): "[licence]" if v and str(k).endswith(LICENCE_KEYS) else redact(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [redact(item) for item in content]
    return content


def _redact_text(text: str) -> str:
    for pattern, placeholder in _patterns(_private_values()):
        text = pattern.sub(placeholder, text)
    return text


def _private_values() -> tuple[tuple[str, str], ...]:
    """(private text, placeholder), the most telling first."""
    licences = [(os.environ[name], "[licence]") for name in LICENCE_VARIABLES if os.environ.get(name)]
    secrets = [(value, "[secret]") for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET]
    return (*licences, *sorted(secrets), *_names())


@cache
def _names() -> tuple[tuple[str, str], ...]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = ""
    home = str(Path.home())
    return tuple((value, f"[{kind}]") for kind, value in (("home", home), ("host", socket.gethostname()), ("user", user)) if len(value) > 1)


@cache
def _patterns(values: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    """Secrets and licences wherever they stand; names and the home folder as whole words, so that other words stay whole."""
    return [
        (re.compile(re.escape(value) if kind in ("[secret]", "[licence]") else rf"(?<![\w.-]){re.escape(value)}(?![\w-])"), kind)
        for value, kind in values
    ]


def restore(path: str) -> Path:
    """A path of a record on this machine, where its placeholders may stand for other folders."""
    for value, placeholder in _names():
        path = path.replace(placeholder, value)
    return Path(path)
