"""Copies of large inputs on the node's own disk, for steps that read them many times (docs/fetching.md).

    SCRATCH/boldscribe-UID/copies/SHA256               one per content, shared by the jobs of a node
                          /views/…/0/sub-01_bold.npy   links to copies, under the inputs' names and next to their neighbours
                          /.lock                       held while copying: only one process of a node copies at once

A copy is valid once it is complete and has the digest of its original. A process locks its folder of links, and the system releases the
lock however the process ends. A copy that no locked folder links to may be removed. A step never fails because a copy is missing: it
then reads its inputs where they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import gigabytes, write_json
from boldscribe.machinery.provenance.digests import file_state, files_of, record_path, recorded_digest
from boldscribe.machinery.provenance.verified import Verified

MARGIN_SHARE, MARGIN_BYTES = 0.05, 1 << 30  # share of what is copied, and minimum: space left to others
CHUNK = 8 << 20
THREADS = 4
PATIENCE = 10.0  # s that a job at its end waits for another's copying; after that its copies are removed later
PART, USED = ".part", ".used"  # next to a copy: one in progress, and a file whose time is that of the last use

log = logging.getLogger(__name__)


class Scratch:
    """Inputs that one step reads from the node's own disk.

    Args:
        folder: a folder on that disk.
        free: returns the number of free bytes there.

    Attributes:
        places: input → where to read it.
        names: names of the staged inputs.
        bytes: their size.
        seconds: time taken, including waiting for other processes.
    """

    def __init__(self, folder: Path, free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free) -> None:
        self.folder = folder / f"boldscribe-{os.getuid()}"
        self._free = free
        self._view: tuple[Path, int] | None = None  # folder of links, and the descriptor that holds its lock
        self._used: set[str] = set()  # digests of the copies linked there
        self._folders: dict[Path, Path] = {}  # folder of inputs → its place in the view
        self.places: dict[Path, Path] = {}
        self.names: list[str] = []
        self.bytes, self.seconds = 0, 0.0

    def stage(self, inputs: Mapping[str, Sequence[Path]], names: Sequence[str]) -> None:
        """Provide inputs as copies, which are made if they do not exist yet; all of these names, or none.

        Args:
            inputs: all inputs of the step by name; those next to a staged one are linked next to its copy.
            names: inputs that are read many times.
        """
        clock = time.perf_counter()
        wanted = list(dict.fromkeys(p for name in names for p in inputs.get(name, []) if p.is_file() and p not in self.places))
        if not wanted:
            return
        names = [name for name in names if set(inputs.get(name, [])) & set(wanted)]
        try:
            digests = {path: recorded_digest(path) for path in wanted}
            self._prepare()
            with self._alone():
                self._provide(digests)
                self._link(digests, [p for paths in inputs.values() for p in paths])
        except (_NoCopyError, OSError) as error:
            log.warning("%s: no copies of %s there; the originals are read: %s", self.folder, ", ".join(names), error)
            return
        finally:
            self.seconds += time.perf_counter() - clock
        self.names += names
        self.bytes += (size := sum(digest["bytes"] for digest in digests.values()))
        log.info("%s: %s of %s, after %.1f s", self.folder, gigabytes(size), ", ".join(names), time.perf_counter() - clock)

    def close(self) -> None:
        """Remove the links, and the copies that no other process reads."""
        if self._view is None:
            return
        shutil.rmtree(self._view[0], ignore_errors=True)
        os.close(self._view[1])
        self._view = None
        self.places.clear()
        with suppress(OSError), self._alone(seconds=PATIENCE):
            for sha256 in self._used - self._in_use():
                self._remove(sha256)

    def declared(self, text: str) -> str:
        """Return a message with the input names that the user knows."""
        for source, place in self._folders.items():
            text = text.replace(f"{place}/", f"{source}/")
        return text

    def _prepare(self) -> None:
        """Make the folder. In a place where everyone may write, another user's folder of that name is not trusted."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        stat = self.folder.lstat()
        if self.folder.is_symlink() or stat.st_uid != os.getuid() or stat.st_mode & 0o077:
            raise _NoCopyError("the folder belongs to another user, or others have access to it; remove it")
        for name in ("copies", "views"):
            (self.folder / name).mkdir(exist_ok=True)

    @contextmanager
    def _alone(self, seconds: float | None = None) -> Iterator[None]:
        """Hold the lock of the folder.

        Raises:
            BlockingIOError: others held it for longer than `seconds`.
        """
        with (self.folder / ".lock").open("w") as lock:
            last = None if seconds is None else time.monotonic() + seconds
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if last is None:
                        log.info("%s: another process on this node is copying; waiting for it to finish", self.folder)
                        fcntl.flock(lock, fcntl.LOCK_EX)
                        break
                    if time.monotonic() > last:
                        raise
                    time.sleep(0.1)
            yield

    def _in_use(self) -> set[str]:
        """Return digests of the copies that live processes read; remove the links of processes that have ended."""
        found = set()
        for view in (self.folder / "views").iterdir():
            descriptor = os.open(view, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(view, ignore_errors=True)
            except BlockingIOError:
                found |= {file.readlink().name for file in view.glob("*/*") if file.is_symlink()}
            except OSError:  # its process is removing it
                continue
            finally:
                os.close(descriptor)
        return found

    def _provide(self, digests: Mapping[Path, dict[str, Any]]) -> None:
        """Find or make a copy of each file."""
        originals: dict[str, Path] = {}
        for path, digest in digests.items():
            for file, entry in zip(files_of(path), digest["files"], strict=True):
                originals.setdefault(entry["sha256"], file)
        in_use = self._in_use()
        for part in (self.folder / "copies").glob(f"*{PART}"):
            part.unlink(missing_ok=True)  # left by a killed process: under the lock nobody else copies
        memory = Verified(self.folder / "copies")
        missing = {}
        for sha256, original in originals.items():
            if memory.holds(sha256, bytes.fromhex(sha256)):
                self._last_use(sha256).touch()
                continue
            if self._copy_of(sha256).exists():
                log.warning("%s: the copy of %s is damaged; copying it again", self.folder, original)
                self._remove(sha256)
            missing[sha256] = original
        self._make_room(sum(file.stat().st_size for file in missing.values()), in_use | originals.keys())
        try:
            self._copy(missing, memory)
        except BaseException:
            for sha256 in missing:
                self._remove(sha256)
            raise
        memory.write()

    def _remove(self, sha256: str) -> None:
        self._copy_of(sha256).unlink(missing_ok=True)
        self._last_use(sha256).unlink(missing_ok=True)

    def _make_room(self, needed: int, keep: Set[str]) -> None:
        """Remove unused copies, least recently used first, until what is needed fits with a margin."""
        margin = max(int(MARGIN_SHARE * needed), MARGIN_BYTES) if needed else 0
        for used in sorted((self.folder / "copies").glob(f"*{USED}"), key=lambda file: file.stat().st_mtime):
            if self._free(self.folder) >= needed + margin:
                return
            if used.stem not in keep:
                self._remove(used.stem)
        if (free := self._free(self.folder)) < needed + margin:
            raise _NoCopyError(f"found {gigabytes(free)} free, expected {gigabytes(needed)} and a margin of {gigabytes(margin)}")

    def _copy(self, originals: Mapping[str, Path], memory: Verified) -> None:
        stop = threading.Event()

        def copy(sha256: str) -> None:
            target = self._copy_of(sha256)
            part = target.with_name(f"{sha256}{PART}")
            try:
                if (found := _copy_file(originals[sha256], part, stop)) != sha256:
                    raise _NoCopyError(f"the copy of {originals[sha256]} has the digest {found[:12]}…, expected {sha256[:12]}…")
                self._last_use(sha256).touch()
                part.rename(target)
                memory.remember(sha256, sha256)
            finally:
                part.unlink(missing_ok=True)

        pool = ThreadPoolExecutor(THREADS)
        try:
            list(pool.map(copy, originals))
        finally:  # a job asked to exit early does not wait for the rest
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _link(self, digests: Mapping[Path, dict[str, Any]], inputs: Sequence[Path]) -> None:
        """Link the copies in the layout of the inputs, with their records, which identify them without another read."""
        if self._view is None:
            view = Path(tempfile.mkdtemp(dir=self.folder / "views"))
            descriptor = os.open(view, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._view = (view, descriptor)
        places = {}
        for path, digest in digests.items():
            if path.parent not in self._folders:
                self._folders[path.parent] = self._view[0] / str(len(self._folders))
                self._folders[path.parent].mkdir()
            self._used |= {entry["sha256"] for entry in digest["files"]}
            place = places[path] = self._folders[path.parent] / path.name
            files = [dict(entry) for entry in digest["files"]]
            for file, entry in zip(files_of(path), files, strict=True):
                _replace_link(place.with_name(file.name), self._copy_of(entry["sha256"]))
                entry["state"] = file_state(self._copy_of(entry["sha256"]))
            record_path(place).unlink(missing_ok=True)
            write_json(record_path(place), {"subject": {**digest, "files": files}})
        for path in inputs:
            if path.parent in self._folders and path not in places and path not in self.places:
                for file in (path, record_path(path)) if path.is_dir() else (*files_of(path), record_path(path)):
                    if file.exists():
                        _replace_link(self._folders[path.parent] / file.name, file.absolute())
        self.places |= places

    def _copy_of(self, sha256: str) -> Path:
        return self.folder / "copies" / sha256

    def _last_use(self, sha256: str) -> Path:
        return self.folder / "copies" / f"{sha256}{USED}"


class _NoCopyError(Exception):
    """Reason why inputs are read where they are."""


def _replace_link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _copy_file(source: Path, target: Path, stop: threading.Event) -> str:
    """Copy a file in chunks; return the SHA-256 of what was read."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while size := reader.readinto(buffer):
            if stop.is_set():
                raise _NoCopyError("interrupted")
            digest.update(buffer[:size])
            rest = buffer[:size]
            while rest:
                rest = rest[writer.write(rest) :]
    return digest.hexdigest()


@contextmanager
def staged(folder: Path, inputs: Mapping[str, Sequence[Path]], names: Sequence[str]) -> Iterator[Scratch]:
    """Provide inputs on the node's own disk while the block runs.

    Args:
        folder: a folder on that disk.
        inputs: inputs of the step by name.
        names: inputs that it reads many times.
    """
    scratch = Scratch(folder)
    try:
        scratch.stage(inputs, names)
        yield scratch
    except UserError as error:
        if (told := [scratch.declared(text) for text in (error.where, *error.problems)]) == [error.where, *error.problems]:
            raise
        raise type(error)(*told) from None
    finally:
        scratch.close()
