"""The environment of a step: the packages that its code uses, the lock, the container, the machine and its GPU."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from boldscribe.machinery.files import ROOT, json_digest, sha256_of
from boldscribe.machinery.installation import DISTRIBUTIONS, canonical, locked_versions, same_release
from boldscribe.machinery.provenance.cache import remembered, state_of
from boldscribe.machinery.provenance.deployment import REMEDY, absence, place
from boldscribe.machinery.provenance.fingerprint import current_fingerprint

SHOWN = 4


def packages_of(program: str) -> dict[str, str]:
    """Return name → installed version of the packages that a program's code imports, and of all that these require.

    Args:
        program: name of the rule and of its program.
    """
    return _packages(program)[0]


def check_packages(program: str) -> None:
    """Stop a step before it computes if a package that it uses is not installed; warn if one is not of the locked version.

    Another version is no error, since it may be intended. Records state it, and the audit's verdict is `unpinned`.

    Args:
        program: name of the rule and of its program.

    Raises:
        UserError: packages of the lock that the program's code imports, or that these require, are not installed.
    """
    installed, absent = _packages(program)
    locked = locked_versions()
    if lacking := [name for name in absent if name in locked]:  # others are optional, and checked where they are used
        raise absence(program, lacking)
    if other := [f"{name} {installed[name]} instead of {locked[name]}" for name in _differing(installed) if name in locked]:
        some = ", ".join(other[:SHOWN]) + (f" and {len(other) - SHOWN} more" if len(other) > SHOWN else "")
        logging.getLogger(__name__).warning(
            "package versions that differ from requirements.lock in %s: %s; an audit will call the results unpinned; %s",
            *(place(), some, REMEDY),
        )


@cache
def _packages(program: str) -> tuple[dict[str, str], list[str]]:
    """Return the packages that a program uses: installed ones with their versions, and the names of missing ones."""
    imported = current_fingerprint(program).packages
    state = _installation_state() + json_digest(sorted(imported))
    installed, absent = remembered(f"installed-{program}", state, lambda: _required(imported))
    return installed, absent


@cache
def _installation_state() -> str:
    """Return a digest that changes when a package is installed, and that is the same in Snakemake and in its jobs.

    It ignores the folder of the started program (a command's, or the checkout), in which their search paths for packages differ.
    """
    started = (ROOT, Path(sys.executable).parent)
    return state_of([Path(sys.executable), *(Path(folder) for folder in sys.path if Path(folder).absolute() not in started)])


@cache
def _required(imported: frozenset[str]) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {"python": platform.python_version()}
    absent: set[str] = set()
    waiting = [_distribution(name) for name in imported]
    while waiting:
        if (name := canonical(waiting.pop())) not in found:
            version, requirements = _installed(name)
            if version:
                found[name] = version
                waiting += requirements
            else:
                absent.add(name)
    return dict(sorted(found.items())), sorted(absent)


@cache
def _installed(name: str) -> tuple[str | None, list[str]]:
    """Return the version of a package and the names of its requirements on this machine; None if it is not installed."""
    from packaging.requirements import Requirement  # imported late: cached answers do not need it

    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None, []
    # Most lines apply only to an extra; parsing them all would take half of the time.
    lines = [text for text in found.get_all("Requires-Dist") or [] if "extra ==" not in text or " or " in text]
    return found["Version"], [r.name for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate({"extra": ""})]


@cache
def _distribution(module: str) -> str:
    name = DISTRIBUTIONS.get(module, module)
    if _installed(canonical(name))[0] is not None or find_spec(module) is None:
        return name
    return next(iter(metadata.packages_distributions().get(module, [name])))


@cache
def lock_digest() -> str | None:
    """Return the SHA-256 of the lock that environments are made from."""
    lock = ROOT / "requirements.lock"
    return sha256_of(lock) if lock.exists() else None


def unlocked(packages: dict[str, str]) -> list[str]:
    """Return packages that differ from the lock, as `name version`."""
    return [f"{name} {packages[name]}" for name in _differing(packages)]


def _differing(packages: dict[str, str]) -> list[str]:
    locked = locked_versions()
    return [name for name, version in packages.items() if name != "python" and not same_release(locked.get(name, ""), version)]


@cache
def hardware() -> dict[str, Any]:
    """Return processor, memory (GiB) and GPU of this machine, and the number of processes that computed together (torchrun).

    `machine` distinguishes machines without naming them.
    """
    return {
        "machine": _machine(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def _machine() -> str:
    """Return a digest of the machine's random identity, which does not reveal its name; empty if there is none."""
    identity = next((p.read_text().strip() for p in map(Path, ("/etc/machine-id", "/var/lib/dbus/machine-id")) if p.exists()), "")
    return hashlib.sha256(identity.encode()).hexdigest()[:12] if identity else ""


def _cpu_model() -> str:
    try:
        found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _gpu() -> list[dict[str, Any]] | None:
    """Return the GPUs that this process used: model, memory, driver, CUDA, and a digest of the UUID. None if it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        {
            "model": device.name,
            "memory_gib": round(device.total_memory / 2**30, 1),
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "uuid_sha256": hashlib.sha256(str(device.uuid).encode()).hexdigest()[:12],
        }
        for device in devices
    ]


@cache
def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def randomness(program: str, seeds: Iterable[int]) -> dict[str, Any]:
    """Return seeds, settings for determinism, and how results repeat: `bitwise`, or `statistical` if a GPU was used.

    Args:
        program: the step's program; whether torch's algorithms are deterministic is recorded if it uses torch, even if it did not load it.
        seeds: of the configuration.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "seeds": list(seeds),
        "deterministic_algorithms": (torch is not None and torch.are_deterministic_algorithms_enabled())
        if "torch" in packages_of(program)
        else None,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "class": "statistical" if on_gpu else "bitwise",
    }
