"""The record of an output, `X.prov.json` next to output `X` and written after it, and the ledger entry that vouches for it.

The content of a record is listed in docs/provenance.md.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import Preempted, UserError
from boldscribe.machinery.files import json_digest, sha256_of, write_json
from boldscribe.machinery.provenance.access import Access, let_pandas_tell
from boldscribe.machinery.provenance.asset_lock import locked_asset, manifest_of
from boldscribe.machinery.provenance.deployment import deployment
from boldscribe.machinery.provenance.digests import digest, record_path, recorded_digest
from boldscribe.machinery.provenance.environment import hardware, lock_digest, packages_of, randomness
from boldscribe.machinery.provenance.fingerprint import current_fingerprint
from boldscribe.machinery.provenance.ledger import add_entry, folder_of, new_entries, new_failures
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.redaction import redact
from boldscribe.machinery.provenance.versions import code_version
from boldscribe.machinery.usage import measured

SLURM = {"job": "SLURM_JOB_ID", "restarts": "SLURM_RESTART_COUNT", "gpus": "CUDA_VISIBLE_DEVICES"}


@dataclass
class Job:
    """A step, and what it turned out to read.

    Attributes:
        rule: name of the rule, and of its program.
        results: root of the results tree.
        inputs, outputs: paths by the names that the rule gives them.
        wildcards: values that distinguish this job from others of the rule.
        settings: dotted name → value of those that the step reads.
        container: image and digest of the container that did the work, if any.
        guarded_by: what denies it undeclared labels, captions and clips (`boldscribe.machinery.steps.guard`).
        staged: inputs that were read from copies on the node's local disk, with their size (bytes) and copying time (s).
    """

    rule: str
    results: Path
    inputs: Mapping[str, Sequence[Path]]
    outputs: Mapping[str, Sequence[Path]]
    wildcards: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    container: dict[str, str | None] | None = None
    staged: dict[str, Any] | None = None
    guarded_by: Sequence[str] = ()


@dataclass(frozen=True)
class _Start:
    """State at the start of a step."""

    when: str
    attempt: int
    preempted: int
    materials: dict[str, list[dict[str, Any]]]
    code: dict[str, Any]
    packages: str


@contextmanager
def record(job: Job) -> Iterator[Job]:
    """Run a step; write the record of each output once all outputs exist, and one ledger entry however the step ends.

    Code and packages are those at the start, when they were loaded.

    Raises:
        UserError: an input is neither an output of this run, nor an asset of the lock, nor covered by a manifest; an input changed
            while the step ran.
        FileNotFoundError: the step ended without making a declared output.
    """
    let_pandas_tell(job.rule)
    clock = time.perf_counter()
    start = _start(job)
    access = Access(job)
    cost = time.perf_counter() - clock
    try:
        with measured() as used, access.watched():
            yield job
        clock = time.perf_counter()
        if missing := [str(p) for p in _paths(job.outputs) if not p.exists()]:
            raise FileNotFoundError(f"{job.rule} ended without making {', '.join(missing)}")
        common = _common(job, start, access)
    except BaseException as error:
        exit_ = str(error) if isinstance(error, Preempted) else f"failed: {type(error).__name__}"
        add_entry(job.results, _entry(job, start, exit_, [], cost) | {"usage": used.figures()})
        raise
    usage = used.figures()
    common = redact(common | {"usage": usage})
    outputs = [_write(job, path, common) for path in _paths(job.outputs)]
    add_entry(job.results, _entry(job, start, "completed", outputs, cost + time.perf_counter() - clock) | {"usage": usage})


def _start(job: Job) -> _Start:
    code = current_fingerprint(job.rule)
    return _Start(
        when=datetime.now(UTC).isoformat(),
        attempt=attempt_of(job),
        preempted=_mine(job, new_entries(job.results, job.rule, "preempted")),
        materials=materials(job),
        code={**code_version(job.rule), "fingerprint": _shared(job.results, "code", code.parts)},
        packages=_shared(job.results, "packages", packages_of(job.rule)),
    )


def attempt_of(job: Job) -> int:
    """Return the number of this attempt at a step: one more than those that failed since the ledger was last closed."""
    return 1 + _mine(job, new_failures(job.results, job.rule))


def _mine(job: Job, entries: Iterable[Mapping[str, Any]]) -> int:
    """Count the entries of this job among those of its rule."""
    return sum(entry["wildcards"] == dict(job.wildcards) for entry in entries)


def materials(job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return name and digest of each input, and what vouches for it: its record, an asset of the lock, or a manifest.

    Raises:
        UserError: nothing vouches for an input.
    """
    return {name: [_material(path, job.results) for path in paths] for name, paths in job.inputs.items() if paths}


def _material(path: Path, results: Path) -> dict[str, Any]:
    found = recorded_digest(path)
    material = {"path": name_of(path, results), "sha256": found["sha256"], "bytes": found["bytes"]}
    if record_path(path).exists():
        return material | {"record_sha256": sha256_of(record_path(path))}
    if (file := manifest_of(path, results)) is not None:
        return material | {"manifest": name_of(file, results)}
    return material | {"asset": locked_asset(path, found["sha256"]).id}


def _common(job: Job, start: _Start, access: Access) -> dict[str, Any]:
    """Return a record without its subject; content that many jobs share is stored in the ledger's folder, named by its digest."""
    used = materials(job)  # including those that the step found while it ran
    if changed := [m["path"] for name, found in start.materials.items() for m in found if m not in used[name]]:
        raise UserError(job.rule, f"input {', '.join(changed)} changed while the step ran; run it again")
    return {
        "activity": {
            "rule": job.rule,
            "wildcards": dict(job.wildcards),
            "argv": [Path(sys.argv[0]).name, *(name_of(a, job.results) if "/" in a else a for a in sys.argv[1:])],
            "attempt": start.attempt,
            "preempted": start.preempted,
            "started": start.when,
            "ended": datetime.now(UTC).isoformat(),
            "exit": "completed",
            "slurm": {name: os.environ[v] for name, v in SLURM.items() if v in os.environ} if "SLURM_JOB_ID" in os.environ else None,
            **({"staged": job.staged} if job.staged else {}),
        },
        "materials": used,
        "code": start.code,
        "config": dict(job.settings),
        "environment": {
            "lock_sha256": lock_digest(),
            "packages": start.packages,
            "deployment": deployment(),
            "container": job.container,
        },
        "hardware": hardware(),
        "randomness": randomness(job.rule, [job.settings["seed"]] if "seed" in job.settings else []),
        "data_access": access.summary() | {"guarded_by": sorted(job.guarded_by)},
    }


def _write(job: Job, path: Path, common: Mapping[str, Any]) -> dict[str, str]:
    """Write a record, with `common` already redacted, and return its line of the ledger entry."""
    subject = {"path": name_of(path, job.results), **digest(path)}
    write_json(record_path(path), {"subject": redact(subject), **common})
    return {"path": subject["path"], "sha256": subject["sha256"], "record_sha256": sha256_of(record_path(path))}


def _entry(job: Job, start: _Start, exit_: str, outputs: list[dict[str, str]], cost: float) -> dict[str, Any]:
    """Return a ledger entry; `cost` is the time that recording took (s)."""
    content = {
        "rule": job.rule,
        "wildcards": dict(job.wildcards),
        "started": start.when,
        "ended": datetime.now(UTC).isoformat(),
        "attempt": start.attempt,
        "exit": exit_,
        "recording_seconds": round(cost, 4),
        "outputs": outputs,
    }
    redacted: dict[str, Any] = redact(content)
    return redacted


def _shared(results: Path, kind: str, content: Any) -> str:
    sha256 = json_digest(content)
    path = folder_of(results) / kind / f"{sha256}.json"
    if not path.exists():
        write_json(path, content)
    return sha256


def _paths(named: Mapping[str, Sequence[Path]]) -> Iterator[Path]:
    for paths in named.values():
        yield from paths
