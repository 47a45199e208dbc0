"""Checks of this machine for `boldscribe doctor`: Python, packages, programs, container engines, Snakemake, Slurm. They change nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from boldscribe.machinery.cluster.site import SITE
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.installation import locked_packages

Status = Literal["ok", "limited", "missing"]


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, `limited` (enough for some uses) or `missing`, with a remedy for the latter two."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def check_python() -> Check:
    """Check the version of Python."""
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Check("Python", "ok", version)
    return Check("Python", "limited" if sys.version_info > (3, 11) else "missing", version, "use Python 3.11, which the lock is made for")


def check_packages() -> Check:
    """Compare the installed packages with the lock."""
    differing, n = locked_packages(ROOT / "requirements.lock")
    if not differing:
        return Check("packages", "ok", f"{n} packages, as locked")
    absent = any("not installed" in line for line in differing)
    some = "; ".join(differing[:4]) + (f"; and {len(differing) - 4} more" if len(differing) > 4 else "")
    found = f"{len(differing)} of {n} differ from the lock: {some}"
    return Check("packages", "missing" if absent else "limited", found, "run `make setup`")


def check_programs() -> Check:
    """Check that the programs of a run are installed."""
    absent = [name for name in ("git", "make", "flock") if shutil.which(name) is None]
    if absent:
        return Check("programs", "missing", f"no {', '.join(absent)}", "install with the system's package manager")
    return Check("programs", "ok", "git, make, flock")


def _answer(*command: str) -> tuple[bool, str]:
    """Run a command; return whether it succeeded, and its last line of output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return False, "not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"{type(error).__name__}: {error}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"


def check_engines() -> Check:
    """Find container engines that work."""
    versions = {
        "apptainer": ["--version"],
        "singularity": ["--version"],
        "docker": ["info", "--format", "docker {{.ServerVersion}}"],
        "podman": ["--version"],
    }
    answers = {name: _answer(name, *options) for name, options in versions.items()}
    if found := [message for running, message in answers.values() if running]:
        return Check("container engines", "ok", "; ".join(found))
    said = [f"{name}: {message}" for name, (_, message) in answers.items() if message != "not installed"]
    remedy = "needed only for fMRIPrep; the engines 'embedded', 'derivatives' and 'bare' work without one"
    return Check("container engines", "missing", "; ".join(said) or f"none of {', '.join(versions)}", remedy)


def check_snakemake() -> Check:
    """Check that jobs find this environment's Snakemake."""
    # a job's `python` and `snakemake` come from PATH, where the environment must come first
    here, of_path = Path(sys.executable).parent, shutil.which("snakemake")
    if of_path is None:
        return Check("Snakemake", "limited", "not on PATH", f"`make` sets it; by hand: source {here}/activate")
    running, message = _answer("snakemake", "--version")
    if not running:
        return Check("Snakemake", "missing", message, "run `make setup`")
    if Path(of_path).parent != here:
        return Check("Snakemake", "limited", f"{message}, from another environment ({of_path})", f"source {here}/activate")
    return Check("Snakemake", "ok", message)


def check_slurm() -> Check:
    """Check for Slurm, Snakemake's plugin for it, and the site's settings."""
    running, message = _answer("sbatch", "--version")
    if not running:
        return Check("Slurm", "missing", f"sbatch: {message}", "not needed for the demo; without it, full scale runs only on this machine")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return Check("Slurm", "limited", f"{message}, but Snakemake's plugin for it is not installed", "run `make setup`")
    if not SITE.exists():
        return Check("Slurm", "ok", message, "`boldscribe init --cluster` records how this cluster names its partitions and GPUs")
    return Check("Slurm", "ok", f"{message}; {SITE}")
