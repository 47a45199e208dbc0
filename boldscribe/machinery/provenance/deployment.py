"""The installation that a step runs in (a conda environment, a virtual environment or the system's Python), and its missing packages."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.installation import distribution_of, locked_versions

REMEDY = "install the locked packages with `make setup`, or let Snakemake create the environment: `snakemake --sdm conda`"


@cache
def deployment() -> dict[str, str | None]:
    """Identify the installation that provides this process's packages.

    Returns:
        `kind`: "conda", "virtual environment" or "system"; `environment`: name of the file of envs/ that a conda environment was made
        from, None if it is none of the current files; `prefix`: name of the conda environment's folder, which Snakemake forms from a digest
        of that file.
    """
    prefix = Path(sys.prefix)
    if sys.prefix != sys.base_prefix:
        return {"kind": "virtual environment", "environment": None, "prefix": None}
    if not (prefix / "conda-meta").is_dir():
        return {"kind": "system", "environment": None, "prefix": None}
    return {"kind": "conda", "environment": _made_from(prefix), "prefix": prefix.name}


def _made_from(prefix: Path) -> str | None:
    """Return the environment of envs/ that Snakemake made a prefix from, by the copy of its file next to the folder."""
    for ending in (".yaml", ".pin.txt"):
        copy = prefix.with_name(prefix.name + ending)
        if copy.is_file():
            content = copy.read_bytes()
            return next((p.name.partition(".")[0] for p in sorted((ROOT / "envs").glob(f"*{ending}")) if p.read_bytes() == content), None)
    return None


def in_words(found: dict[str, str | None] | None) -> str:
    """Describe a result of `deployment`, or that in a record, in words; None stands for a record without one."""
    if found is None:
        return "unknown installation"
    if found["kind"] != "conda":
        return str(found["kind"]) if found["kind"] != "system" else "system's Python"
    return f"conda environment {found['environment'] or 'of no file of envs/'} ({found['prefix']})"


def place() -> str:
    """Describe this installation and its location."""
    return f"the {in_words(deployment())}, {sys.prefix}"


def absence(program: str, names: list[str]) -> UserError:
    """Return the error for packages of a program that are not installed.

    Args:
        program: name of the rule, or of the module that was started.
        names: the missing packages, which the lock must contain.
    """
    locked = locked_versions()
    holding = {name: _environments_with(name) for name in names}
    lines = [
        f"package {name}: found none in {place()}, expected {name} {locked[name]} of requirements.lock"
        + (f" and envs/{', '.join(holding[name])}" if holding[name] else "")
        for name in names
    ]
    return UserError(program, *lines[:-1], f"{lines[-1]}; {REMEDY}")


def _environments_with(name: str) -> list[str]:
    return [p.name for p in sorted((ROOT / "envs").glob("*.yaml")) if f"\n      - {name}==" in p.read_text()]


def explain_absence(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report a missing module of a locked package as a missing package, and all other errors as usual (a `sys.excepthook`)."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module and find_spec(module) is None and (name := distribution_of(module)) in locked_versions():
        print(f"error: {absence(_program(), [name])}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _program() -> str:
    """Return the name of the program that Python was asked to run."""
    return next((word.rpartition(".")[2] for option, word in pairwise(sys.orig_argv) if option == "-m"), Path(sys.argv[0]).stem)
