"""Answers that are the same as long as some files are: kept beside the checkout, so that not every job works them out again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from boldscribe.files import write_json

FOLDER = Path(__file__).resolve().parents[2] / ".cache"


def state_of(paths: Iterable[Path]) -> str:
    """A digest of the paths, sizes and times of files or folders; absent ones count as absent."""
    lines = []
    for path in paths:
        try:
            stat = path.stat()
            lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}")
        except OSError:
            lines.append(f"{path} absent")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def remembered(name: str, state: str, work_out: Callable[[], Any]) -> Any:
    """The JSON answer to `name` that was worked out at this state, or a new one.

    A folder that cannot be written, or a torn file, costs the time to work the answer out, and nothing else.
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
