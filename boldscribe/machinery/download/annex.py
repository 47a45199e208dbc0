"""Alternative download of a data set: its git repository at the manifest's commit, with git-annex or datalad."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from boldscribe.machinery.download.manifest import Entry, Manifest
from boldscribe.machinery.download.transfer import alone_in, check_disk, lacking
from boldscribe.machinery.errors import UserError

Program = Literal["git-annex", "datalad"]
PATHS_PER_CALL = 500  # a command line cannot hold 25,000 paths


def annex_get(
    manifest: Manifest, entries: Sequence[Entry], folder: Path, program: Program, *, parallel: int = 8, git_url: str | None = None
) -> None:
    """Download files into a clone of the data set's repository, and verify them against the manifest.

    Args:
        manifest: the data set's manifest.
        entries: files to download.
        folder: the clone; created if missing.
        program: `git-annex` or `datalad`.
        parallel: number of parallel downloads.
        git_url: repository to clone; by default the manifest's.

    Raises:
        UserError: the program is not installed, the folder holds other files, a command failed, or a file differs from the manifest.
    """
    for needed in ("git", program) if program == "git-annex" else ("git", "git-annex", program):
        if shutil.which(needed) is None:
            raise UserError(f"--backend {program}", f"found no command {needed!r}, expected it on PATH; install it, or use --backend https")
    with alone_in(folder.absolute()):
        _clone(folder, git_url or manifest.source["git_url"], manifest.source["commit"])
        wanted = lacking(entries, folder)
        check_disk(wanted, folder)
        paths = [entry.stored_at or entry.path for entry in wanted if not entry.in_git]
        command = ["git", "annex", "get"] if program == "git-annex" else ["datalad", "get"]
        failed = [
            code
            for first in range(0, len(paths), PATHS_PER_CALL)
            if (code := _run([*command, "-J", str(parallel), "--", *paths[first : first + PATHS_PER_CALL]], folder))
        ]
        if absent := lacking(wanted, folder):
            ended = f" ({program} ended with exit code {failed[0]})" if failed else ""
            raise UserError(
                str(folder),
                f"{len(absent)} of {len(entries)} files: found none with the manifest's size and digest{ended}, such as {absent[0].path}; "
                f"expected all; see the messages of {program} above, and run `git annex fsck` on the existing files",
            )


def _clone(folder: Path, git_url: str, commit: str) -> None:
    """Clone the repository at a commit, or check that an existing clone is at that commit."""
    if not (folder / ".git").exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                str(folder), "found files but no clone, expected an empty folder or a clone; use --backend https, or another folder"
            )
        if not git_url:
            raise UserError("manifest", "git_url: found none, expected the address to clone; use --backend https")
        _must(["git", "clone", "--quiet", "--no-checkout", git_url, str(folder)], Path.cwd())
        _must(["git", "checkout", "--quiet", "--detach", commit], folder)
        _must(["git", "annex", "init", "--quiet"], folder)
        return
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    if found != commit:
        raise UserError(str(folder), f"commit: found {found}, expected {commit}, that of the manifest; run `git checkout {commit}` in it")


def _must(command: list[str], where: Path) -> None:
    if code := _run(command, where):
        raise UserError(" ".join(command[:3]), f"found exit code {code}, expected 0; see its message above")


def _run(command: list[str], where: Path) -> int:
    return subprocess.run(command, cwd=where, stdin=subprocess.DEVNULL, check=False).returncode
