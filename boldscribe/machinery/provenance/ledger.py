"""The ledger of a results tree: one line per job, each with the digest of the line before it.

Hundreds of jobs end at once on the nodes of a cluster, over a network file system with unreliable locks and appends. Jobs therefore do
not append. Each writes a separate file under a unique name by a rename, which is atomic there, too. One process, the `provenance` rule,
moves these entries into the ledger when all jobs are done. Changing or removing a line breaks the chain. If the last line is removed, no
entry vouches for the records of its outputs any more.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, write_json

NO_LINE = "0" * 64


def folder_of(results: str | Path) -> Path:
    """Return the folder of a results tree's ledger."""
    return Path(results) / "ledger"


@dataclass(frozen=True)
class Ledger:
    """Content of a ledger.

    Attributes:
        entries: all entries, oldest first; those not yet moved into the ledger come last.
        faults: faults of the ledger itself, one sentence each.
    """

    entries: list[dict[str, Any]]
    faults: list[str]

    def latest(self) -> dict[str, dict[str, Any]]:
        """Return path of each output → `sha256` and `record_sha256` as stated by the last job that made it."""
        return {output["path"]: output for entry in self.entries for output in entry["outputs"]}


def add_entry(results: str | Path, entry: Mapping[str, Any]) -> Path:
    """Write the entry of an ended job to a new file, and return its path. `exit` is `completed`, `failed: …` or `preempted: …`."""
    exit_ = entry["exit"].partition(":")[0]
    path = folder_of(results) / "new" / f"{entry['ended'].replace(':', '')}_{entry['rule']}_{exit_}_{uuid.uuid4().hex}.json"
    write_json(path, entry)
    return path


def new_failures(results: str | Path, rule: str) -> Iterator[dict[str, Any]]:
    """Return entries of a rule's jobs that failed since the ledger was last closed; preempted jobs do not count."""
    return new_entries(results, rule, "failed")


def new_entries(results: str | Path, rule: str, exit_: str) -> Iterator[dict[str, Any]]:
    """Yield entries of a rule's jobs that ended with `exit_` (`completed`, `failed` or `left`) since the ledger was last closed."""
    for path in (folder_of(results) / "new").glob(f"[0-9]*_{rule}_{exit_}_*.json"):
        yield json.loads(path.read_text())


def read_ledger(results: str | Path) -> Ledger:
    """Read all entries and check the chain."""
    entries, faults = [], []
    previous = NO_LINE
    for number, line in enumerate(_lines(results), 1):
        try:
            content = json.loads(line)
            entry, stated = content["entry"], content["previous"]
        except (ValueError, KeyError, TypeError):
            faults.append(f"line {number} cannot be read")
            previous = _digest(line)
            continue
        if stated != previous:
            faults.append(f"line {number} does not follow from the line before it: a line was changed, added or removed")
        entries.append(entry)
        previous = _digest(line)
    return Ledger(entries + [json.loads(p.read_text()) for p in _new(results)], faults)


Wildcards = tuple[tuple[str, str], ...]
Usages = dict[str, dict[Wildcards, list[Mapping[str, Any]]]]


def usage_of_jobs(entries: Iterable[Mapping[str, Any]]) -> Usages:
    """Return rule → job → its usage, in parts if it was preempted and resumed; of a job that ran several times, the last run.

    A rule without completed jobs maps to no jobs.

    Args:
        entries: the ledger's, oldest first.
    """
    jobs: Usages = {}
    parts: dict[tuple[str, Wildcards], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        if (used := entry.get("usage")) is None:
            continue
        rule, job = entry["rule"], tuple(sorted(entry["wildcards"].items()))
        done = jobs.setdefault(rule, {})
        if entry["exit"] == "completed":
            done[job] = [*parts.pop((rule, job), []), used]
        elif entry["exit"].startswith("preempted"):
            parts[rule, job].append(used)
    return jobs


def close(results: str | Path) -> int:
    """Move new entries into the ledger, and return their number. Only one process may do so at the same time.

    The ledger is rewritten and renamed, so that a killed job does not damage it. Entries that it contains already are not added twice.

    Raises:
        UserError: the chain is broken; nothing is written, to preserve the evidence.
    """
    if faults := read_ledger(results).faults:
        raise UserError(str(folder_of(results) / "ledger.jsonl"), *faults, "restore it from a copy, or start a new results folder")
    lines = list(_lines(results))
    known = {json.loads(line)["name"] for line in lines}
    new = _new(results)
    for path in new:
        if path.name not in known:
            content = {"previous": _digest(lines[-1]) if lines else NO_LINE, "name": path.name, "entry": json.loads(path.read_text())}
            lines.append(json.dumps(content, sort_keys=True))
    with atomic(folder_of(results) / "ledger.jsonl") as part:
        part.write_text("".join(f"{line}\n" for line in lines))
    for path in new:
        path.unlink()
    return len(new)


def _lines(results: str | Path) -> Iterator[str]:
    path = folder_of(results) / "ledger.jsonl"
    if path.exists():
        yield from path.read_text().splitlines()


def _new(results: str | Path) -> list[Path]:
    return sorted((folder_of(results) / "new").glob("[0-9]*.json"))


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
