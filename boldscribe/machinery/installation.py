"""Checks of installed packages against the lock, and of files in packages against their digests."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

# Import name → package name, where they differ.
from boldscribe.machinery.files import ROOT

DISTRIBUTIONS = {
    "PIL": "pillow",
    "ants": "antspyx",
    "bids": "pybids",
    "dateutil": "python-dateutil",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def pins(lock: Path) -> list[tuple[str, str]]:
    """Read name and version of each package in a lock."""
    return re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text())


def canonical(name: str) -> str:
    """Return the canonical spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of(module: str) -> str:
    """Return the likely name of the package that contains a module; the package need not be installed."""
    return canonical(DISTRIBUTIONS.get(module, module))


@cache
def locked_versions() -> dict[str, str]:
    """Return name → version of all packages in the locks."""
    return {canonical(name): version for lock in sorted(ROOT.glob("requirements*.lock")) for name, version in pins(lock)}


def same_release(version: str, other: str) -> bool:
    """Return whether two versions are the same release, ignoring local labels (`2.13.0+cpu`)."""
    return version.partition("+")[0] == other.partition("+")[0]


def locked_packages(lock: Path) -> tuple[list[str], int]:
    """Return the packages that differ from the lock, one phrase each, and the number of locked packages.

    Args:
        lock: requirements file of `name==version` lines.
    """
    wanted_versions = pins(lock)
    differing = []
    for name, wanted in wanted_versions:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            differing.append(f"{name} {wanted} not installed")
            continue
        if not same_release(found, wanted):
            differing.append(f"{name} {found} instead of {wanted}")
    return differing, len(wanted_versions)


def damaged_files(packages: Mapping[str, str]) -> list[str]:
    """Check a file of each package against the digest that the package states; return one phrase per problem."""
    problems = []
    for package, name in packages.items():
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            problems.append(f"package {package} is not installed")
            continue
        stated = [file for file in files if file.as_posix().endswith(name)]
        if not stated or not (path := Path(str(stated[0].locate()))).is_file():
            problems.append(f"{package} contains no {name}")
        elif stated[0].hash is not None and _digest(path, stated[0].hash.mode) != stated[0].hash.value:
            problems.append(f"{name} of {package} is damaged: its digest differs from the stated one")
    return problems


def _digest(path: Path, algorithm: str) -> str:
    """Return a digest in the format of wheels: URL-safe base64 without padding."""
    with path.open("rb") as stream:
        return base64.urlsafe_b64encode(hashlib.file_digest(stream, algorithm).digest()).rstrip(b"=").decode()
