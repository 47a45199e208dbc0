"""The ledger: what was done in a results tree, one line per job, each line holding the digest of the one before it.

Hundreds of jobs end at once on the nodes of a cluster, over a network file system whose locks and appends cannot be trusted. So a
job appends nothing: it writes a file of its own, under a name that nobody else uses, by a rename; that is atomic there, too. One
process, the `provenance` rule, moves these entries into the ledger when all jobs are done. A line that is changed or taken out
breaks the chain; one taken from the end is missed by the records of its outputs, which no entry vouches for any more.
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

from boldscribe.errors import UserError
from boldscribe.files import atomic, write_json

NO_LINE = "0" * 64


def folder_of(results: str | Path) -> Path:
    """Where a results tree keeps its ledger."""
    return Path(results) / "ledger"


@dataclass(frozen=True)
class Ledger:
    """What a ledger says.

    Attributes:
        entries: all that were added, oldest first; those not yet moved into the ledger come last.
        faults: what is wrong with the ledger itself, one sentence each.
    """

    entries: list[dict[str, Any]]
    faults: list[str]

    def latest(self) -> dict[str, dict[str, Any]]:
        """Path of each output → `sha256` and `record_sha256` as the last job that made it stated them."""
        return {output["path"]: output for entry in self.entries for output in entry["outputs"]}


def add_entry(results: str | Path, entry: Mapping[str, Any]) -> Path:
    """Add an entry, of a job that has ended, in a file of its own; returns that file. `exit` is `completed`, `failed: …` or `left: …`."""
    exit_ = entry["exit"].partition(":")[0]
    path = folder_of(results) / "new" / f"{entry['ended'].replace(':', '')}_{entry['rule']}_{exit_}_{uuid.uuid4().hex}.json"
    write_json(path, entry)
    return path


def new_failures(results: str | Path, rule: str) -> Iterator[dict[str, Any]]:
    """Entries of a rule's jobs that failed since the ledger was last closed; one that left on a signal has not."""
    return new_entries(results, rule, "failed")


def new_entries(results: str | Path, rule: str, exit_: str) -> Iterator[dict[str, Any]]:
    """Entries of a rule's jobs that ended so (`completed`, `failed` or `left`) since the ledger was last closed."""
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
            faults.append(f"line {number} does not follow on the line before it: a line was changed, added or taken out")
        entries.append(entry)
        previous = _digest(line)
    return Ledger(entries + [json.loads(p.read_text()) for p in _new(results)], faults)


Wildcards = tuple[tuple[str, str], ...]
Usages = dict[str, dict[Wildcards, list[Mapping[str, Any]]]]


def usage_of_jobs(entries: Iterable[Mapping[str, Any]]) -> Usages:
    """Rule → job → what it used, part by part where it left and came back; of a job that was done several times, the last time.

    A rule of which nothing is done yet has no jobs.

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
        elif entry["exit"].startswith("left"):
            parts[rule, job].append(used)
    return jobs


def close(results: str | Path) -> int:
    """Move new entries into the ledger; returns how many. For one process at a time.

    A ledger is written anew and renamed, so that a killed job leaves it whole; entries that it holds already are not added twice.

    Raises:
        UserError: the chain is broken; nothing is written, so that what shows the damage is kept.
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
