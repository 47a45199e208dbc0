"""Record of a folder's verified files: a digest is trusted as long as the file system reports the file as unchanged.

So 100 GB need not be read again to check them. The record is next to the folder, so that it is not part of the data.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import write_json
from boldscribe.machinery.provenance.digests import file_state

CHUNK = 1 << 20
SECONDS_BETWEEN_WRITES = 60.0


def memory_of(folder: Path) -> Path:
    """Return the path of a folder's record of verified files."""
    return folder.with_name(f".{folder.name}.verified.json")


def verified_files(folder: str | Path) -> list[dict[str, Any]]:
    """Read a folder's record in the form that `boldscribe.machinery.provenance.digests.digest` takes: path, sha256, bytes, state."""
    try:
        found: dict[str, Any] = json.loads(memory_of(Path(folder).absolute()).read_text())["files"]
        return [{"path": path, **known} for path, known in found.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def digests_of(path: Path, *, md5: bool = False) -> tuple[str, str]:
    """Compute SHA-256 and, if requested, MD5 of a file in one read."""
    sha256, other = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            sha256.update(chunk)
            if md5:
                other.update(chunk)
    return sha256.hexdigest(), other.hexdigest() if md5 else ""


class Verified:
    """Thread-safe record of a folder's verified files.

    Args:
        folder: folder of the data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._lock = threading.Lock()
        self._written = time.monotonic()
        self._is_new = False
        self._files: dict[str, Any] = {entry.pop("path"): entry for entry in verified_files(self._folder)}

    def holds(self, path: str, digest: bytes) -> bool:
        """Return whether a file exists and has a digest (SHA-256 or MD5); it is read if its digest is unknown."""
        file = self._folder / path
        try:
            state = file_state(file)
        except OSError:
            return False
        known = self._files.get(path)
        if known is None or known["state"] != state or (len(digest) == 16 and "md5" not in known):
            known = self.remember(path, *digests_of(file, md5=len(digest) == 16), state=state)
        return digest.hex() in (known["sha256"], known.get("md5"))

    def remember(self, path: str, sha256: str, md5: str = "", *, state: list[int] | None = None) -> dict[str, Any]:
        """Record the digests of a file that was just read."""
        state = state or file_state(self._folder / path)
        entry = {"sha256": sha256, "bytes": state[0], "state": state, **({"md5": md5} if md5 else {})}
        with self._lock:
            self._files[path] = entry
            self._is_new = True
            if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
                self._write()
        return entry

    def write(self) -> None:
        """Save the record; if that fails, the files are read again next time."""
        with self._lock:
            if self._is_new:
                self._write()

    def _write(self) -> None:
        self._written, self._is_new = time.monotonic(), False
        with suppress(OSError):
            write_json(memory_of(self._folder), {"files": self._files})
