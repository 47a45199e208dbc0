"""A guard that denies steps access to labels, captions and clips that they did not declare as inputs.

There are two lines of defence (docs/leakage.md). Python reports each file before its own code opens it, so that these files are closed to
every step. Compiled libraries open files unnoticed. For steps that train or decode (`program(..., shut=True)`), the kernel therefore
denies access as well, if it has Landlock.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from boldscribe.machinery.configuration import Experiment
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, header_path
from boldscribe.machinery.provenance.access import let_pandas_tell, unheard, unheard_now
from boldscribe.machinery.provenance.digests import RECORD, record_path
from boldscribe.machinery.registry import the_workflow
from boldscribe.machinery.steps import landlock

# Folders in the home folder that libraries create when they need them.
MADE_LATER = (".cache", ".config", ".local", ".nv", ".triton")
NAMES = re.compile(r"/[^\s'\",:]+")  # names of files in messages

log = logging.getLogger(__name__)
NVIDIA = Path("/proc/driver/nvidia")  # exists if a driver is loaded


class Guard:
    """A guard that decides which files a step may open.

    Args:
        job: its display name.
        rule: its rule.
        config: the experiment, with the locations of data sets.
        inputs, outputs: declared files by name.
        cache: whether the step gets the cache folder, which contains what others made from the same clips.

    Attributes:
        refused: denied attempts, whose errors a library may have swallowed.
        lines: active lines of defence: `python`, `kernel`.
    """

    def __init__(
        self,
        job: str,
        rule: str,
        config: Experiment,
        inputs: Mapping[str, Sequence[Path]],
        outputs: Mapping[str, Sequence[Path]],
        cache: bool = False,
    ) -> None:
        self.refused: list[UserError] = []
        self.lines: list[str] = []
        self._job, self._rule = job, rule
        self._results = _real(config.paths.results)
        self._inputs = [_real(p) for paths in inputs.values() for p in paths]
        self._outputs = [_real(p) for paths in outputs.values() for p in paths]
        self._closed = the_workflow().closed
        listed = {p.stem for p in self._inputs if p.parent == self._results / "fetched"}  # a manifest stands for the data that it lists
        if rule == self._closed.lister:
            listed |= set(config.whole_datasets)
        self._places = self._closed.places(config, listed)
        self._cache = _real(config.paths.cache) if config.paths.cache and not cache else None
        self._temporary = ""
        self._listening = False
        sys.addaudithook(self._hear)  # cannot be removed, so a flag switches it on and off

    @contextmanager
    def watching(self, shut: bool) -> Iterator[None]:
        """Refuse closed files while the block runs; with `shut`, let the kernel refuse them from now on.

        Raises:
            UserError: a closed file was opened, even if a library has swallowed the error.
        """
        let_pandas_tell(self._rule)
        with unheard():
            on_gpu = NVIDIA.exists()
            held = shut and not on_gpu and landlock.may_read_only(self.readable())
        if held:
            self.lines.append("kernel")
        elif shut:
            why = "CUDA is not known to work under Landlock" if on_gpu else "this kernel has no Landlock"
            log.info("%s: files that compiled libraries open unnoticed by Python are not refused (docs/leakage.md)", why)
        self.lines.append("python")
        self._listening = True
        try:
            yield
        except Exception as error:
            if not self.refused and "kernel" in self.lines and (denied := self._denied(error)):
                raise UserError(
                    self._job,
                    f"a file could not be opened ({denied}): labels, captions and clips may be opened only if the step declares them as "
                    "inputs (docs/leakage.md), and the kernel refuses all others; for any other file, correct its permissions",
                ) from error
            if self.refused and error not in self.refused:
                raise self.refused[0] from error
            raise
        finally:
            self._listening = False
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)
        if self.refused:
            raise self.refused[0]

    def kind(self, path: Path) -> str | None:
        """Return the kind of a file that is closed unless it is declared; None for other files.

        Args:
            path: with links resolved.
        """
        if path.name.endswith(RECORD):
            return None
        below = self._below(path, [self._results])
        if found := _kind_of(below, self._closed.in_results) or self._places.files.get(path):
            return found
        if found := next((kind for folder, kind in self._places.folders.items() if path.is_relative_to(folder)), None):
            return found
        if self._cache and path.is_relative_to(self._cache):
            return self._closed.cached
        return _kind_of(self._below(path, self._places.datasets), self._closed.in_data)

    def declared(self, path: Path) -> bool:
        """Return whether a file is an input or output, lies in one, is the header of one, or becomes one (`files.atomic`)."""
        both = [*self._inputs, *self._outputs]
        return any(path == d or path.is_relative_to(d) or (d.suffix == ".npy" and path == header_path(d)) for d in both) or any(
            path.parent == d.parent and path.name.startswith(f".{d.name.split('.')[0]}.") for d in self._outputs
        )

    def readable(self) -> list[Path]:
        """Return what the kernel lets a step read: everything but closed folders, and the declared files in these.

        Folders that the step writes into stay open, since the kernel cannot exempt files that do not exist yet.
        """
        for folder in (p.parent for p in self._outputs):
            folder.mkdir(parents=True, exist_ok=True)
        raw = self._places
        places = [*(self._results / name for name in self._closed.result_folders), *raw.datasets, *raw.folders, *raw.files]
        closed = {_real(p) for p in [*places, *([self._cache] if self._cache else [])] if p.exists()}
        home = _real(Path("~").expanduser())
        if any(p.is_relative_to(home) for p in closed):
            for name in MADE_LATER:
                with suppress(OSError):
                    (home / name).mkdir(exist_ok=True)
        if any(p.is_relative_to(_real(tempfile.gettempdir())) for p in closed):  # files created there later would be unreadable
            self._temporary = os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="boldscribe-")
        found = [entry for top in (Path("/"), self._results, ROOT, Path(sys.prefix)) for entry in _open_parts(top.resolve(), closed)]
        found += [p.parent for p in self._outputs]
        for path in self._inputs:
            found += [p for p in (path, record_path(path), header_path(path)) if p.exists()]
        return found

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self._listening or unheard_now() or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else os.O_RDONLY
        if flags & os.O_ACCMODE == os.O_WRONLY:
            return
        path = _real(os.fsdecode(arguments[0]))
        if (kind := self.kind(path)) is not None and not self.declared(path):
            refusal = UserError(
                self._job,
                f"found an attempt to open {path}, which is not a declared input of the step; {kind} are closed, since they reveal what "
                f"test trials show: {self._closed.openers[kind]} (docs/leakage.md); remove the access, or declare the input in the "
                "step's rule",
            )
            self.refused.append(refusal)
            log.error("%s", refusal)
            raise refusal

    def _denied(self, error: BaseException | None) -> str:
        """Return the message of a denied access, which some libraries report as a missing file; empty if no access was denied."""
        while error is not None:
            named = [_real(name) for name in NAMES.findall(str(error))]
            if isinstance(error, PermissionError) or any(p.exists() and self.kind(p) and not self.declared(p) for p in named):
                return str(error)
            error = error.__cause__ or error.__context__
        return ""

    @staticmethod
    def _below(path: Path, folders: Sequence[Path]) -> str | None:
        return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), None)


def _kind_of(name: str | None, patterns: Mapping[str, re.Pattern[str]]) -> str | None:
    return next((kind for kind, pattern in patterns.items() if name is not None and pattern.fullmatch(name)), None)


def _real(path: str | Path) -> Path:
    """Resolve the links of a path, whether it exists or not."""
    return Path(os.path.realpath(path))


def _open_parts(folder: Path, closed: set[Path]) -> Iterator[Path]:
    """Yield the largest parts of a folder that contain nothing closed."""
    if folder in closed:
        return
    if not any(place.is_relative_to(folder) for place in closed):
        yield folder
        return
    try:
        entries = list(os.scandir(folder))
    except OSError:  # not readable for this user anyway
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            continue  # its target is found at its own place
        yield from _open_parts(path, closed)
