"""A step that tries to open files, each in its way: `-m tests.peeping --config C --line L --kept K --out FILE [--inputs FILE...]`.

The variable TRIES lists ways and files; RESULTS/stage1/tried.json tells what came of each. Line `python`: as on a kernel without Landlock.
"""

import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.forkserver import hand_over
from boldscribe.machinery.steps import landlock
from boldscribe.workflow import Inputs, Output, program


def by_c(path: Path) -> Any:
    """As compiled code opens a file."""
    number = ctypes.CDLL(None, use_errno=True).open(os.fsencode(path), os.O_RDONLY)
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    os.close(number)


def by_pyarrow(path: Path) -> Any:
    """pyarrow's own parquet reader."""
    import pyarrow.parquet as pq

    return pq.read_table(path)


def by_safetensors(path: Path) -> Any:
    """safetensors' memory map."""
    from safetensors.numpy import load_file

    return load_file(path)


def by_av(path: Path) -> Any:
    """FFmpeg's file protocol."""
    import av

    with suppress(av.error.InvalidDataError):  # it has been read, and is no video
        av.open(str(path))


def by_mmap(path: Path) -> Any:
    """A memory map."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def in_a_program(path: Path) -> Any:
    """By a program that the step starts."""
    subprocess.run(["cat", str(path)], check=True, capture_output=True)


def in_a_worker(path: Path) -> Any:
    """By a process that is started anew."""
    with get_context("spawn").Pool(1) as pool:
        pool.apply(by_c, (path,))


def for_a_while(path: Path) -> Any:
    """A temporary file of the step's own."""
    with tempfile.NamedTemporaryFile(suffix=path.name) as stream:
        stream.write(path.name.encode())
        stream.flush()
        by_c(Path(stream.name))


WAYS: dict[str, Callable[[Path], Any]] = {
    "open": lambda path: path.read_bytes(),
    "link": lambda path: Path(os.environ["LINKS"], path.name).read_bytes(),
    "numpy": lambda path: np.load(path, mmap_mode="r"),
    "memmap": lambda path: np.memmap(path, mode="r"),
    "mmap": by_mmap,
    "pandas": pd.read_parquet,
    "pandas, folder": lambda path: pd.read_parquet(path.parent),
    "pyarrow": by_pyarrow,
    "safetensors": by_safetensors,
    "av": by_av,
    "C": by_c,
    "program": in_a_program,
    "worker": in_a_worker,
    "temporary": for_a_while,
}


@program("stage1", settings="paths.results", shut=True)
def main(config: Config, line: str, kept: str, inputs: Inputs, out: Output) -> None:
    """Try; with `kept: no`, the first refusal is raised, as by a library that keeps nothing to itself."""
    found = {}
    for way, file in json.loads(os.environ["TRIES"]):
        try:
            WAYS[way](Path(file))
            found[f"{way} {Path(file).name}"] = "read"
        except Exception as error:
            found[f"{way} {Path(file).name}"] = "refused by python" if isinstance(error, UserError) else "refused"
            if kept == "no":
                raise
    Path(config.paths.results, "stage1", "tried.json").write_text(json.dumps(found))
    out.write_text("made")


if __name__ == "__main__":
    hand_over("tests.peeping", sys.argv[1:])
    if sys.argv[sys.argv.index("--line") + 1] == "python":
        landlock.may_read_only = lambda paths: False
    main()
