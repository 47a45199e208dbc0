"""The version of the code that ran: its commit, and whether the code that the program uses was committed."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import ROOT
from boldscribe.machinery.provenance.cache import remembered
from boldscribe.machinery.provenance.fingerprint import PROJECT, Code, code_state, current_fingerprint


@cache
def commit() -> str | None:
    """Return the checked-out commit; None if the code is in no git checkout."""
    found = _git("rev-parse", "HEAD")
    return found.decode().strip() if found else None


def code_version(program: str) -> dict[str, Any]:
    """Return the commit, whether a program's code matches it apart from comments, and a digest of the difference if not."""
    head = commit()
    committed = None if head is None else head_fingerprint(program) == current_fingerprint(program).sha256
    patch = None if committed is not False else hashlib.sha256(_git("diff", "HEAD", "--", *PROJECT) or b"").hexdigest()
    return {"commit": head, "committed": committed, "patch_sha256": patch}


def head_fingerprint(program: str) -> str:
    """Return the fingerprint of a program in the checked-out commit."""
    if not uncommitted_files():
        return current_fingerprint(program).sha256
    state = f"{commit()} {code_state()}"
    found: str = remembered(f"head-{program}", state, lambda: _head_code().fingerprint(program).sha256)
    return found


@cache
def uncommitted_files() -> frozenset[Path]:
    """Return the files of the code that differ from the commit or are not in it."""
    listed = (_git("status", "--porcelain", "--untracked-files=all", "-z", "--", *PROJECT) or b"").decode().split("\0")
    return frozenset(ROOT / entry[3:] for entry in listed if len(entry) > 3)


@cache
def _head_code() -> Code:
    def read(path: Path) -> bytes:
        if path not in uncommitted_files():
            return path.read_bytes()
        return _git("show", f"HEAD:{path.relative_to(ROOT).as_posix()}") or b""  # a new file counts as empty

    return Code(read)


def _git(*arguments: str) -> bytes | None:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def is_known_commit(sha: str) -> bool:
    """Return whether the repository has a commit."""
    return _git("cat-file", "-e", f"{sha}^{{commit}}") is not None
