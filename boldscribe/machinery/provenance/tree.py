"""A results tree as its records describe it: outputs, their inputs, and what vouches for each record."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.digests import NOT_CONTENT, RECORD, files_of
from boldscribe.machinery.provenance.ledger import Ledger, folder_of, read_ledger
from boldscribe.machinery.provenance.naming import name_of, path_of
from boldscribe.machinery.provenance.run_files import OWN_FILES

BESIDES = ("ledger", "logs", "work", "cache")  # folders of a results tree that hold no results


@dataclass
class Output:
    """An output with its record.

    Attributes:
        name: as records name it (`naming`).
        path: its location.
        record: content of its record; None if it cannot be read.
        record_sha256: digest of the record's file.
    """

    name: str
    path: Path
    record: dict[str, Any] | None
    record_sha256: str

    @property
    def rule(self) -> str:
        """The rule that made it."""
        return str(self.record["activity"]["rule"]) if self.record else "unknown"

    def materials(self) -> Iterator[dict[str, Any]]:
        """Yield all inputs of its job."""
        for materials in (self.record or {"materials": {}})["materials"].values():
            yield from materials


@dataclass
class Tree:
    """A results tree.

    Attributes:
        results: its root.
        outputs: all outputs that have a record, by name.
    """

    results: Path
    outputs: dict[str, Output] = field(default_factory=dict)
    _shared: dict[tuple[str, str], Any] = field(default_factory=dict)

    @cached_property
    def ledger(self) -> Ledger:
        """The tree's ledger."""
        return read_ledger(self.results)

    @cached_property
    def vouched(self) -> dict[str, set[str]]:
        """Name of each output → digests of all records that jobs of this run have written for it."""
        found: dict[str, set[str]] = {}
        for entry in self.ledger.entries:
            for output in entry["outputs"]:
                found.setdefault(output["path"], set()).add(output["record_sha256"])
        return found

    def shared(self, kind: str, sha256: str) -> Any:
        """Load content that several records share by its digest: `code` (parts of a fingerprint) or `packages`; empty if lost."""
        if (kind, sha256) not in self._shared:
            try:
                self._shared[kind, sha256] = json.loads((folder_of(self.results) / kind / f"{sha256}.json").read_text())
            except (OSError, ValueError):
                self._shared[kind, sha256] = {}
        return self._shared[kind, sha256]

    def file_of(self, name: str) -> Path:
        """Return the file or folder that a name in a record stands for."""
        return path_of(name, self.results)

    def output_at(self, path: Path) -> Output | None:
        """Return the output that a file is, or is part of."""
        name = name_of(path, self.results)
        while name not in ("", "."):
            if name in self.outputs:
                return self.outputs[name]
            name = Path(name).parent.as_posix()
        beside = Path(path).with_suffix(".npy")  # the header of an array
        return self.outputs.get(name_of(beside, self.results)) if Path(path).suffix == ".json" else None

    def lineage(self, name: str) -> list[str]:
        """Return the names of an output and of all recorded outputs that it was made from, nearest first."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            if (current := waiting.pop(0)) in self.outputs and current not in found:
                found[current] = None
                waiting += [m["path"] for m in self.outputs[current].materials()]
        return list(found)

    def in_order(self) -> list[Output]:
        """Return all outputs in topological order, each after its inputs."""
        done: dict[str, Output] = {}

        def visit(output: Output, above: frozenset[str]) -> None:
            for material in output.materials():
                other = self.outputs.get(material["path"])
                if other is not None and other.name not in done and other.name not in above:
                    visit(other, above | {other.name})
            done.setdefault(output.name, output)

        for output in self.outputs.values():
            visit(output, frozenset({output.name}))
        return list(done.values())

    def strays(self) -> list[str]:
        """Return names of files that are neither part of an output with a record nor the run's own."""
        parts = {p for output in self.outputs.values() for p in files_of(output.path) if not output.path.is_dir()}
        folders = {output.path for output in self.outputs.values() if output.path.is_dir()}
        return [name_of(p, self.results) for p in _files(self.results, folders) if p not in parts and not p.name.endswith(NOT_CONTENT)]


def read_tree(results: str | Path) -> Tree:
    """Read all records of a results tree.

    Raises:
        UserError: there is no such folder.
    """
    if not Path(results).is_dir():
        raise UserError(str(results), "the folder does not exist; name the results folder of a run")
    tree = Tree(Path(results))
    for path in _files(tree.results, set()):
        if path.name.endswith(RECORD):
            subject = path.with_name(path.name.removesuffix(RECORD))
            text = path.read_bytes()
            try:
                content = json.loads(text)
            except ValueError:
                content = None
            name = name_of(subject, tree.results)
            tree.outputs[name] = Output(name, subject, content, hashlib.sha256(text).hexdigest())
    return tree


def _files(folder: Path, skipped: set[Path]) -> Iterator[Path]:
    """Yield the files of a results tree in order of name, except those in `skipped` folders and in folders that hold no results."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda e: e.name)
    for entry in listed:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if path not in skipped and not (entry.name in BESIDES and (folder / OWN_FILES[1]).exists()):
                yield from _files(path, skipped)
        elif entry.name not in OWN_FILES or not (folder / OWN_FILES[1]).exists():
            yield path
