"""Cache of answers that depend only on some files, kept in the checkout so that not every job computes them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import ROOT, write_json

FOLDER = ROOT / ".cache"


def state_of(paths: Iterable[Path]) -> str:
    """Return a digest of the paths, sizes, times and inodes of files or folders; missing ones count as absent."""
    lines = []
    for path in paths:
        try:
            stat = path.stat()
            lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}")
        except OSError:
            lines.append(f"{path} absent")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def remembered(name: str, state: str, work_out: Callable[[], Any]) -> Any:
    """Return the cached JSON answer to `name` for this state, or compute and cache a new one.

    An unwritable folder or a torn file only costs the time to compute the answer.
    """
    path = FOLDER / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        if kept["state"] == state:
            return kept["answer"]
    answer = work_out()
    with suppress(OSError):
        write_json(path, {"state": state, "answer": answer})
    return answer
