"""Steps running on this machine, from its list of processes."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from boldscribe.machinery.files import ROOT


@dataclass(frozen=True)
class Step:
    """A step running on this machine: its rule, the paths on its command line (its outputs among them), and its start time."""

    rule: str
    arguments: frozenset[Path]
    since: datetime


def steps(folder: Path) -> list[Step]:
    """Return the steps running on this machine that were started from a folder, oldest first. Other machines are not seen."""
    found = []
    for process in psutil.process_iter(["cmdline", "uids", "create_time"]):
        command = process.info["cmdline"] or []
        if "-m" not in command or (process.info["uids"] and process.info["uids"].real != os.getuid()):
            continue
        # training is started by a launcher, whose own options end with `--`
        modules = [a for flag, a in itertools.pairwise(command) if flag in ("-m", "--") and a.startswith("workflow_scripts.")]
        if not modules:
            continue
        try:
            here = Path(process.cwd())
        except (psutil.Error, OSError):
            continue
        if not _same(here, folder):
            continue
        paths = frozenset((here / a).absolute() for a in command if "/" in a)
        since = datetime.fromtimestamp(process.info["create_time"], UTC)
        found.append(Step(modules[0].removeprefix("workflow_scripts."), paths, since))
    return sorted(found, key=lambda p: p.since)


def workflow_folder() -> Path:
    """Return the folder that Snakemake is started in, which identifies its jobs: this one if it was, else the checkout."""
    here = Path.cwd()
    return here if (here / ".snakemake").is_dir() else ROOT


def _same(one: str | Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
