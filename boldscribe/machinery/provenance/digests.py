"""Digests of a step's inputs and outputs: a file, an array with its header, or a folder.

Each digest is stored with the file's state (size, times, inode). While the state is the same, so is the content, and no large file is
read twice. Programs cannot set the inode's change time, so it reveals a file that was replaced under its old size and modification
time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import header_path, sha256_of, write_json

RECORD = ".prov.json"
NOT_CONTENT = (RECORD, ".snakemake_timestamp")  # Snakemake adds its timestamp to a folder after the step has made it
REPOSITORY = ".git"  # of a data set fetched by git-annex: the tracked files are content, the repository is not
HASHING_THREADS = 4
STATES = "ledger/states.json"


def record_path(output: str | Path) -> Path:
    """Return the path of an output's record: same name with `.prov.json` added."""
    output = Path(output)
    return output.with_name(output.name + RECORD)


def files_of(path: Path) -> list[Path]:
    """List the files that make up an output: those of a folder, an array and its header, or the file itself."""
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.is_file() and not p.name.endswith(NOT_CONTENT))
        return sorted(p for p in found if REPOSITORY not in p.relative_to(path).parts)
    if path.suffix == ".npy" and header_path(path).exists():
        return [path, header_path(path)]
    return [path]


def file_state(path: Path) -> list[int]:
    """Return size (bytes), modification time and inode change time (ns), and inode number; links are followed."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def digest(path: str | Path, known: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return SHA-256 and size (bytes) of an output and of each of its files.

    A single file keeps its own digest; that of several is taken over lines of digest and name, as `sha256sum` writes them.

    Args:
        path: file or folder.
        known: entries of `files` from an earlier digest; those with an unchanged state are trusted.
    """
    path = Path(path)
    base = path if path.is_dir() else path.parent
    believed = {entry["path"]: entry for entry in known}
    paths = files_of(path)
    names = [p.relative_to(base).as_posix() for p in paths]
    states = [file_state(p) for p in paths]
    fresh = [p for p, name, state in zip(paths, names, states, strict=True) if believed.get(name, {}).get("state") != state]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        hashed = dict(zip(fresh, pool.map(sha256_of, fresh), strict=True))
    files = [
        {"path": name, "sha256": hashed[p] if p in hashed else believed[name]["sha256"], "bytes": state[0], "state": state}
        for p, name, state in zip(paths, names, states, strict=True)
    ]
    return {"sha256": combined(files, path.is_dir()), "bytes": sum(f["bytes"] for f in files), "files": files}


def read_states(results: Path) -> dict[str, Any]:
    """Return file (relative to the tree) → its state and digest when an audit last read it.

    Snakemake resets the times of outputs after they are recorded, so that the states in their records are soon outdated.
    """
    try:
        found: dict[str, Any] = json.loads((results / STATES).read_text())
    except (OSError, ValueError):
        return {}
    return found


def write_states(results: Path, read: Mapping[Path, str], without: Container[Path]) -> None:
    """Store the states of files that an audit has read (file → digest), except those with other content (`without`).

    If the tree is not writable, the next audit reads the files again.
    """
    fresh = {path.relative_to(results).as_posix(): [file_state(path), sha256] for path, sha256 in read.items() if path not in without}
    if fresh:
        with suppress(OSError):
            write_json(results / STATES, read_states(results) | fresh)


def combined(files: list[dict[str, Any]], folder: bool = False) -> str:
    """Combine the digests of an output's files into one."""
    if len(files) == 1 and not folder:
        return str(files[0]["sha256"])
    return hashlib.sha256("".join(f"{f['sha256']}  {f['path']}\n" for f in files).encode()).hexdigest()


_read: dict[Path, list[dict[str, Any]]] = {}  # files that this process has read, if they were at least SETTLED old
SETTLED = 2.0  # s; a younger file could change again and keep the same times


def recorded_digest(path: str | Path) -> dict[str, Any]:
    """Return the digest of an output; for unchanged files, trust its record and what this process has read before."""
    try:
        known = json.loads(record_path(path).read_text())["subject"]["files"]
    except (OSError, ValueError, KeyError):
        known = []
    path = Path(path).absolute()
    found = digest(path, [*known, *_read.get(path, [])])
    if all(file["state"][2] / 1e9 < time.time() - SETTLED for file in found["files"]):
        _read[path] = found["files"]
    return found
