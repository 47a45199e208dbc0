"""File names in records: relative to the results tree, or below a placeholder for a folder whose location depends on the machine."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from boldscribe.machinery.files import ROOT
from boldscribe.machinery.provenance.redaction import redact, restore

PACKAGES = Path(sysconfig.get_path("purelib"))
CHECKOUT, PYTHON = "[checkout]", "[python]"


def name_of(path: str | Path, results: str | Path) -> str:
    """Return the name of a file or folder in records.

    Names in the results tree are relative to it, so that the tree can be moved. `[checkout]/…` is relative to the code's checkout,
    `[python]/…` to the folder of installed packages. Other paths are absolute, without home and user (`redaction`).
    """
    path = Path(path).absolute()
    for folder, prefix in ((Path(results).absolute(), ""), (PACKAGES, PYTHON + "/"), (ROOT, CHECKOUT + "/")):
        if path.is_relative_to(folder):
            return prefix + path.relative_to(folder).as_posix()
    return str(redact(path.as_posix()))


def path_of(name: str, results: str | Path) -> Path:
    """Return the file or folder on this machine that a name in a record stands for."""
    for prefix, folder in ((CHECKOUT, ROOT), (PYTHON, PACKAGES)):
        if name.startswith(prefix + "/"):
            return folder / name.removeprefix(prefix + "/")
    path = restore(name)
    return path if path.is_absolute() else Path(results) / path
