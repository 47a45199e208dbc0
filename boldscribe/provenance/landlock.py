"""Landlock: the kernel refuses this process, and all that it starts, to read files outside of a list (Linux 5.19, 2022, or later).

It holds for compiled libraries too, whose opening of files Python hears nothing of. What it knows is a list of what may be read, each
a file or all that is below a folder; a file that is made later below no folder of the list cannot be read. See
https://docs.kernel.org/userspace-api/landlock.html, whose names of constants these are.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # numbers of the calls, on every architecture
CREATE_RULESET_VERSION = 1 << 0
RULE_PATH_BENEATH = 1
ACCESS_FS_READ_FILE, ACCESS_FS_REFER = 1 << 2, 1 << 13
PR_SET_NO_NEW_PRIVS = 38
OLDEST = 2  # version 1 forbids every renaming from one folder to another


def may_read_only(paths: Iterable[Path]) -> bool:
    """From now on, this thread and all that it starts may read these files, and what is below these folders; for good.

    Returns:
        whether the kernel does so; an older one, or one that was built without Landlock, does not.
    """
    if _call(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION) < OLDEST:
        return False
    handled = struct.pack("=Q", ACCESS_FS_READ_FILE | ACCESS_FS_REFER)
    rules = _call(CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return False
    try:
        _allow(rules, Path("/"), ACCESS_FS_REFER)
        for path in paths:
            with suppress(OSError):  # not there, or in a folder that is closed to this user: the list need not have it
                _allow(rules, path, ACCESS_FS_READ_FILE | (ACCESS_FS_REFER if path.is_dir() else 0))
        # Asked for by Landlock: a program with more rights than its user's, which this process could start, would not be held.
        if _library().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return _call(RESTRICT_SELF, rules, 0) == 0
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, access: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", access, place), 0)
    finally:
        os.close(place)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    """A system call's result; -1 where it fails, or where there is none of that number."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_library().syscall(ctypes.c_long(number), *converted))
