"""The record of a file: `X.prov.json` beside output `X`, written after it.

Content: subject (what was made), activity (rule, wildcards, times), materials (inputs and their digests), code (commit, and
whether the tree was clean), the slice of the configuration that was read, the environment, and the seed.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from boldscribe.files import write_json

ROOT = Path(__file__).resolve().parents[2]


def record_path(output: str | Path) -> Path:
    """The record that belongs to an output: same name with `.prov.json` added."""
    output = Path(output)
    return output.with_name(output.name + ".prov.json")


def digest(path: str | Path) -> dict[str, Any]:
    """Path, SHA-256 and size (bytes) of a file; for a folder, of its files' relative paths and digests.

    Left out of a folder: records, and the time stamp that Snakemake puts into a folder which is an output, after it was made.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.endswith((".prov.json", ".snakemake_timestamp")))
        parts = [(p.relative_to(path).as_posix(), digest(p)) for p in files]
        tree = "".join(f"{d['sha256']}  {name}\n" for name, d in parts)
        return {
            "path": path.as_posix(),
            "sha256": hashlib.sha256(tree.encode()).hexdigest(),
            "bytes": sum(d["bytes"] for _, d in parts),
            "files": len(parts),
        }
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"path": path.as_posix(), "sha256": sha256, "bytes": path.stat().st_size}


@contextmanager
def record(
    rule: str,
    *,
    inputs: Mapping[str, Sequence[Path]],
    outputs: Mapping[str, Sequence[Path]],
    wildcards: Mapping[str, str],
    config_read: Mapping[str, Any],
) -> Iterator[None]:
    """Run a step and write the record of each of its outputs once all of them are there.

    Args:
        rule: name of the rule.
        inputs, outputs: paths by name, as the rule names them.
        wildcards: values that tell this job from the rule's others.
        config_read: dotted configuration keys read so far; looked at when the step has ended.

    Raises:
        FileNotFoundError: the step ended without having made a declared output.
    """
    started = datetime.now(UTC)
    yield
    missing = [str(p) for paths in outputs.values() for p in paths if not p.exists()]
    if missing:
        raise FileNotFoundError(f"{rule} ended without making {', '.join(missing)}")
    common = {
        "activity": {"rule": rule, "wildcards": dict(wildcards), "started": started.isoformat(), "ended": datetime.now(UTC).isoformat()},
        "materials": {name: [digest(p) for p in paths] for name, paths in inputs.items()},
        "code": code_state(),
        "config": dict(config_read),
        "environment": environment(),
    }
    for paths in outputs.values():
        for path in paths:
            write_json(record_path(path), {"subject": digest(path), **common})


@cache
def code_state() -> dict[str, Any]:
    """Commit of the code and whether tracked files differ from it; null where the code is not in a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("diff", "HEAD")
    return {
        "commit": git("rev-parse", "HEAD"),
        "clean": None if changes is None else not changes,
        "patch_sha256": hashlib.sha256(changes.encode()).hexdigest() if changes else None,
    }


@cache
def environment() -> dict[str, Any]:
    """Python version, machine architecture, digest of the lock, and the packages observed in this interpreter."""
    packages = sorted({f"{d.metadata['Name'].lower()}=={d.version}" for d in metadata.distributions() if d.metadata["Name"]})
    lock = ROOT / "requirements.lock"
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "lock_sha256": digest(lock)["sha256"] if lock.exists() else None,
        "packages_sha256": hashlib.sha256("\n".join(packages).encode()).hexdigest(),
        "packages": len(packages),
    }
