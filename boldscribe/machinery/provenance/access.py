"""Data that a step opened: subjects, labels, captions and stimuli, and undeclared files.

Python reports each file that its own code opens, and pandas is patched to do so. Other libraries that open files in compiled code (video
readers) are not seen, so declared inputs count as opened, too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from boldscribe.machinery.provenance.digests import RECORD
from boldscribe.machinery.provenance.environment import packages_of
from boldscribe.machinery.provenance.naming import name_of

# Kinds of data whose use in training must be accounted for, by their file names (docs/data.md).
KINDS = {
    "labels": re.compile(r"_labels\.parquet$|_events\.tsv$"),
    "captions": re.compile(r"_captions\.parquet$"),
    "stimuli": re.compile(r"(^|/)stimuli(/|$)"),
}
SUBJECT = re.compile(r"(?:^|/)(?P<dataset>[A-Za-z0-9]+)/sub-(?P<subject>[A-Za-z0-9]+)(?=[/_.]|$)")
BESIDES = ("config.yaml", "ledger", "logs", "work", "cache")  # parts of the results tree that no step's result depends on


_unheard: list[None] = []


@contextmanager
def unheard() -> Iterator[None]:
    """Treat files opened in this block as opened for an audit, not as inputs of the step."""
    _unheard.append(None)
    try:
        yield
    finally:
        _unheard.pop()


def unheard_now() -> bool:
    """Return whether files opened now are opened for an audit."""
    return bool(_unheard)


def let_pandas_tell(program: str) -> None:
    """Let pandas, if a program can use it, report the tables that it reads: pyarrow opens them in compiled code."""
    if "pandas" not in packages_of(program):
        return
    import pandas.io.parquet

    parquet: Any = pandas.io.parquet
    if hasattr(parquet.PyArrowImpl.read, "__wrapped__"):
        return
    read = parquet.PyArrowImpl.read

    @wraps(read)
    def telling(self: Any, path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike):
            for file in sorted(Path(path).rglob("*")) if Path(path).is_dir() else [path]:
                sys.audit("open", os.fspath(file), "r", os.O_RDONLY)
        return read(self, path, *arguments, **options)

    parquet.PyArrowImpl.read = telling


class _Job(Protocol):
    results: Path
    inputs: Mapping[str, Sequence[Path]]
    outputs: Mapping[str, Sequence[Path]]


class Access:
    """A recorder of the files of the results tree that a step opens.

    Args:
        job: the step; its inputs are evaluated when it has ended.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._root = str(job.results.absolute()) + "/"
        self._opened: set[str] = set()
        self._watching = False
        sys.addaudithook(self._hear)  # cannot be removed, so a flag switches it on and off

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record opened files while the block runs; those that pandas reads are seen only after `let_pandas_tell`."""
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self._watching and not _unheard and isinstance(path := arguments[0], str | Path):
            absolute = str(Path(path).absolute())
            if absolute.startswith(self._root):
                self._opened.add(absolute)

    def summary(self) -> dict[str, list[str]]:
        """Return subjects, labels, captions and stimuli that were opened or declared, and opened files that were not declared."""
        declared = [p.absolute() for named in (self._job.inputs, self._job.outputs) for paths in named.values() for p in paths]
        inputs = {name_of(p, self._job.results) for paths in self._job.inputs.values() for p in paths}
        opened = {name_of(p, self._job.results) for p in map(Path, self._opened) if p.is_file() and not p.name.endswith(RECORD)}
        read = inputs | {name for name in opened if name.partition("/")[0] not in BESIDES}
        found = [SUBJECT.search(name) for name in read]
        return {
            "subjects": sorted({f"{m['dataset']}/sub-{m['subject']}" for m in found if m}),
            **{kind: sorted(name for name in read if pattern.search(name)) for kind, pattern in KINDS.items()},
            "undeclared": sorted(n for n in read if not _is_declared(self._job.results / n, declared) and n not in inputs),
        }


def _is_declared(path: Path, declared: Sequence[Path]) -> bool:
    """Return whether a file is declared, lies in a declared folder, or is the header of a declared array."""
    path = path.absolute()
    return any(path == d or path.is_relative_to(d) or (d.suffix == ".npy" and path == d.with_suffix(".json")) for d in declared)
