"""`boldscribe audit` against `sha256sum`, over the same files: `python -m benchmarks.audit --help`.

A results tree of many files is made through the recorder itself. Both commands then run in turn as whole processes, with the files
in the page cache; the ratio is that of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.machinery.provenance.ledger import close
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.provenance.run_files import write_run

ROOT = Path(__file__).resolve().parents[1]
PER_JOB = 100


def make_tree(results: Path, n_files: int, size: int) -> list[Path]:
    """A results tree of `n_files` files of `size` bytes, each job making a hundred from the first file of the job before."""
    write_run(Config.model_validate({"paths": {"results": str(results)}}), [ROOT / "config.yaml"], {"paths": {"results": str(results)}})
    made: list[Path] = []
    for job in tqdm(range(n_files // PER_JOB), "jobs"):
        outputs = [results / "scores" / f"job-{job:04d}" / f"{i:03d}.bin" for i in range(PER_JOB)]
        with record(Job("tables", results, {"x": made[-PER_JOB : 1 - PER_JOB]}, {"y": outputs})):
            outputs[0].parent.mkdir(parents=True)
            for path in outputs:
                path.write_bytes(os.urandom(size))
        made += outputs
    close(results)
    return made


def seconds(command: list[str], stdin: str = "") -> float:
    """Wall time of a command (s)."""
    start = time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT)
    if done.returncode not in (0, 3):  # 3: a checkout with uncommitted changes
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - start


@click.command()
@click.option("--files", default=10_000, show_default=True)
@click.option("--kib", default=256, show_default=True, help="Size of a file (KiB).")
@click.option("--repeats", default=5, show_default=True)
def main(files: int, kib: int, repeats: int) -> None:
    """Time both commands in turn and print medians and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        made = make_tree(results, files, kib * 1024)
        listed = "\0".join(map(str, made))
        audit = [sys.executable, "-m", "boldscribe.cli", "audit", str(results)]
        commands = {
            "sha256sum": (["xargs", "-0", "sha256sum"], listed),
            "sha256sum, a process per core": (["xargs", "-0", "-n", "100", "-P", str(os.cpu_count()), "sha256sum"], listed),
            "audit": (audit, ""),
            "audit --fast": ([*audit, "--fast"], ""),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats + 1):
            for name, (command, stdin) in commands.items():
                times[name].append(seconds(command, stdin))
    click.echo(f"{files} files of {kib} KiB, {os.cpu_count()} cores, {repeats} repeats in turn after one that does not count")
    base = statistics.median(times["sha256sum"][1:])
    for name, values in times.items():
        kept, median = values[1:], statistics.median(values[1:])
        click.echo(f"{name:30} median {median:6.2f} s ({min(kept):.2f} to {max(kept):.2f}), {median / base:.2f} × sha256sum")


if __name__ == "__main__":
    main()
