"""A stand-in for conda, and a channel on disk: Snakemake's `--sdm conda` is run for real where no conda and no channel can be had.

What is real: Snakemake's own handling of environments, the solve and the installation (py-rattler, which pixi is made of), and pip's
installation of the pip section with its hashes. What is not: conda itself, and conda-forge's packages. The channel holds two
packages, made here: `python`, the interpreter that runs the tests, and `pip`, the lock's wheel.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("program.py")


def install_standin(folder: Path) -> Path:
    """Lay the stand-in out as an installed conda; gives the folder that belongs first on PATH.

    Args:
        folder: where; environments' packages are cached in it too.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    conda = programs / "conda"
    conda.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(PROGRAM))} {shlex.quote(str(folder))} "$@"\n')
    conda.chmod(0o755)
    shutil.copy2(PROGRAM.with_name("activate"), programs / "activate")
    return programs
