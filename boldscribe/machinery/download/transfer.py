"""Download of a manifest's files to a folder: missing files, disk space, and the transfer itself."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from boldscribe.machinery.download.http import FatalError, Fetcher, Stopped
from boldscribe.machinery.download.manifest import Entry, check_path
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import gigabytes
from boldscribe.machinery.offline import is_offline
from boldscribe.machinery.provenance.verified import Verified

log = logging.getLogger(__name__)

HASHING_THREADS = 4
SHOWN = 20  # problems in the message of one transfer
# free space and inodes that a disk keeps besides the downloads
MARGIN_SHARE, MARGIN_BYTES, MARGIN_FILES = 0.02, 256 * 1024**2, 1000


def lacking(entries: Sequence[Entry], folder: Path, memory: Verified | None = None) -> list[Entry]:
    """Return the entries whose file is missing or has another size or digest.

    Files that are unchanged since their verification are not read again; new results are recorded.
    """
    memory = memory or Verified(folder)
    of_size = [(folder / e.path).is_file() and (folder / e.path).stat().st_size == e.size for e in entries]

    def holds(pair: tuple[Entry, bool]) -> bool:
        return pair[1] and memory.holds(pair[0].path, pair[0].digest)

    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        there = list(pool.map(holds, zip(entries, of_size, strict=True)))
    memory.write()
    return [entry for entry, found in zip(entries, there, strict=True) if not found]


def check_disk(entries: Sequence[Entry], folder: Path) -> None:
    """Check that missing files fit on the disk, with a margin.

    Raises:
        UserError: too little free space (bytes), or too few free inodes.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    arrived = sum(_size(folder / Path(e.path).with_name(f".{Path(e.path).name}.part")) for e in entries)
    needed = sum(e.size for e in entries) - arrived
    needed = int(needed + max(needed * MARGIN_SHARE, MARGIN_BYTES))
    problems = []
    if (free := shutil.disk_usage(existing).free) < needed:
        problems.append(
            f"found {gigabytes(free)} free, expected {gigabytes(needed)} for {len(entries)} files; make room, or choose fewer subjects"
        )
    system = os.statvfs(existing)
    # a file system without a fixed number of inodes reports zero
    if system.f_files and system.f_favail < len(entries) + MARGIN_FILES:
        problems.append(
            f"found {system.f_favail} free inodes, expected {len(entries) + MARGIN_FILES}; remove files, or request more inodes"
        )
    if problems:
        raise UserError(str(existing), *problems)


def transfer(
    entries: Sequence[Entry],
    folder: Path,
    url_of: Callable[[Entry], str],
    *,
    parallel: int = 8,
    fetcher: Fetcher | None = None,
) -> None:
    """Fetch missing entries into a folder; each appears there when it is complete and verified.

    A file that cannot be fetched does not stop the others; all problems are reported together.

    Args:
        entries: entries of a manifest.
        folder: root of the data set.
        url_of: returns the URL of a file.
        parallel: number of parallel downloads.
        fetcher: downloader; a new one by default.

    Raises:
        UserError: another process fetches into this folder, the disk is too full, the network is switched off, or files could not be
            fetched.
    """
    folder = folder.absolute()
    for entry in entries:
        check_path(entry.path, "manifest")
    with alone_in(folder):
        memory = Verified(folder)
        wanted = lacking(entries, folder, memory)
        if other := [e.path for e in wanted if (folder / e.path).is_file() and (folder / e.path).stat().st_size]:
            log.warning("%d files in %s differ from the manifest and are replaced: %s", len(other), folder, ", ".join(other[:5]))
        if wanted and is_offline():
            raise UserError(
                str(folder),
                f"found {len(wanted)} files missing while BOLDSCRIBE_OFFLINE is set, expected it unset; unset it to fetch files",
            )
        check_disk(wanted, folder)
        _transfer(wanted, folder, url_of, parallel, fetcher or Fetcher(), memory)


def _transfer(
    wanted: Sequence[Entry], folder: Path, url_of: Callable[[Entry], str], parallel: int, fetcher: Fetcher, memory: Verified
) -> None:
    problems: list[UserError] = []
    with (
        tqdm(total=sum(e.size for e in wanted), unit="B", unit_scale=True, disable=not wanted, mininterval=_interval()) as bar,
        ThreadPoolExecutor(parallel) as pool,
    ):

        def fetch(entry: Entry) -> None:
            target = folder / entry.path
            bar.update(min(_size(target.with_name(f".{target.name}.part")), entry.size))
            memory.remember(entry.path, *fetcher.fetch(url_of(entry), target, entry.size, entry.digest, bar.update))

        try:
            for future in as_completed([pool.submit(fetch, entry) for entry in wanted]):
                try:
                    future.result()
                except Stopped:
                    continue
                except OSError as error:
                    problems.append(_unwritable(folder, error))
                except UserError as error:
                    problems.append(error)
                if problems and isinstance(problems[-1], FatalError):
                    fetcher.stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        except BaseException:
            fetcher.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            memory.write()
    if fatal := next((p for p in problems if isinstance(p, FatalError)), None):
        raise fatal
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(f"{folder}: {len(problems)} of {len(wanted)} files", *[str(p) for p in problems[:SHOWN]], *more)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder's lock file, which is next to it.

    Raises:
        UserError: another process holds it; the message names it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("a+")
    except OSError as error:
        raise _unwritable(folder, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                str(folder), f"found {_holder(lock.read())} fetching into it, expected none; wait until it ends, or stop it"
            ) from None
        lock.truncate(0)
        lock.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        lock.flush()
        yield


def _unwritable(folder: Path, error: OSError) -> FatalError:
    return FatalError(
        str(error.filename or folder), f"found {error.strerror}, expected a writable folder; correct the folder or its permissions"
    )


def _holder(content: str) -> str:
    try:
        holder = json.loads(content)
        return f"process {holder['process']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _interval() -> float:
    """Return the seconds between updates of the progress bar, which are rare in a log file."""
    return 0.5 if sys.stderr.isatty() else 60.0
