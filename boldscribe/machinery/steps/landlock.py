"""Landlock: the kernel stops this process, and all that it starts, from reading files outside a list (Linux 5.19, 2022, or later).

This covers compiled libraries, too, whose file accesses Python does not see. Each item of the list is a file, or a folder with all that
is below it. A file created later outside the listed folders cannot be read. The names of constants are those of
https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # numbers of the system calls, on every architecture
CREATE_RULESET_VERSION = 1 << 0
RULE_PATH_BENEATH = 1
ACCESS_FS_READ_FILE, ACCESS_FS_REFER = 1 << 2, 1 << 13
PR_SET_NO_NEW_PRIVS = 38
OLDEST = 2  # version 1 forbids all renames between folders


def may_read_only(paths: Iterable[Path]) -> bool:
    """Permanently restrict reading by this thread, and all that it starts, to these files and to what is below these folders.

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
            with suppress(OSError):  # missing, or in a folder that this user may not enter: not needed in the list
                _allow(rules, path, ACCESS_FS_READ_FILE | (ACCESS_FS_REFER if path.is_dir() else 0))
        # Required by Landlock: a program with more rights than its user's, which this process could start, would escape.
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
    """Return a system call's result; -1 if it fails or does not exist."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_library().syscall(ctypes.c_long(number), *converted))
