"""The demo in fresh clones: what it takes, and what comes out, as the tables of docs/demo.md.

`python -m benchmarks.demo --runs 3 --write docs/demo.md` clones the checkout as it is committed, calls `make setup` and `make demo` in
each clone, and puts the tables between the marks of that page. `--results` reads a finished run instead, and measures nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd
import psutil

from boldscribe.conditions import CONDITIONS
from boldscribe.machinery.provenance.ledger import read_ledger
from boldscribe.machinery.usage_table import usage_by_rule

ROOT = Path(__file__).resolve().parents[1]
PR_SET_CHILD_SUBREAPER = 36
COLUMNS = {
    "bertscore": "BERTScore",
    "rouge_l_f": "ROUGE-L F",
    "identification_2way": "identification, 2-way",
    "identification": "identification, top-1",
}


@dataclass(frozen=True)
class Taken:
    """Cost of a command: wall time (s), time of all processes' cores (s), and most memory of all together (GiB, shared pages once)."""

    seconds: float
    cpu: float
    memory: float


def measured(command: Sequence[str], folder: Path) -> Taken:
    """Run a command to its end, with all that it starts, whoever becomes the parent of that.

    Raises:
        SystemExit: it failed.
    """
    peak, ended = [0], threading.Event()
    before = _cpu()
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watch = threading.Thread(target=_watch, args=(peak, ended), daemon=True)
    watch.start()
    status = process.wait()
    seconds = time.monotonic() - start
    ended.set()
    watch.join()
    with suppress(ChildProcessError):
        while True:
            os.wait()  # for servers, which end a moment later
    if status:
        sys.exit(f"{' '.join(command)} failed in {folder}")
    return Taken(seconds, _cpu() - before, peak[0] / 2**30)


def _watch(peak: list[int], ended: threading.Event) -> None:
    while not ended.wait(2):
        total = 0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        peak[0] = max(peak[0], total)


def _cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def time_table(taken: Sequence[tuple[Taken, Taken]], target: str) -> list[str]:
    """Rows of set-up and run: minimum, median and maximum over the clones."""
    rows = ["| | wall, s | CPU, s | most memory, GiB |", "| --- | ---: | ---: | ---: |"]
    columns = {"`make setup`": [t[0] for t in taken], f"`make {target}`": [t[1] for t in taken]}
    for name, all_taken in columns.items():
        rows.append(
            f"| {name} | " + " | ".join(_spread([getattr(t, f) for t in all_taken], f) for f in ("seconds", "cpu", "memory")) + " |"
        )
    rows.append(f"| both | {_spread([a.seconds + b.seconds for a, b in taken])} | {_spread([a.cpu + b.cpu for a, b in taken])} | |")
    return rows


def _spread(values: Sequence[float], kind: str = "") -> str:
    form = ".1f" if kind == "memory" else ".0f"
    return " / ".join(f"{f(values):{form}}" for f in (min, statistics.median, max)) if len(values) > 1 else f"{values[0]:{form}}"


def rule_table(results: Path) -> list[str]:
    """Rows of rules, the most costly first: jobs, CPU seconds, longest job, memory."""
    used = sorted(usage_by_rule(read_ledger(results).entries), key=lambda row: -(row["cpu_seconds"] or 0))
    rows = ["| rule | jobs | CPU, s | longest job, s | largest, GiB |", "| --- | ---: | ---: | ---: | ---: |"]
    rows += [
        f"| {r['rule']} | {r['jobs']} | {r['cpu_seconds']:.0f} | {r['longest_seconds']:.0f} | {r['memory_mib'] / 1024:.1f} |" for r in used
    ]
    jobs, cpu = sum(r["jobs"] for r in used), sum(r["cpu_seconds"] for r in used)
    return [*rows, f"| all | {jobs} | {cpu:.0f} | {max(r['longest_seconds'] for r in used):.0f} | |"]


def score_table(results: Path, dataset: str, trained: bool = False) -> list[str]:
    """Rows of conditions: total with its interval over trials, and the model's p against each.

    Args:
        results: tree of a run.
        dataset: whose table.
        trained: only the model, and the conditions that need training runs of their own.
    """
    table = pd.read_csv(results / "tables" / f"{dataset}.csv")
    tests = pd.read_csv(results / "tables" / f"{dataset}_tests.csv")
    total = {(row["condition"], row["metric"]): row for row in table[table["row"] == "Total"].to_dict("records")}
    compared = tests[(tests["row"] == "Total") & (tests["against"] != "chance")].groupby(["condition", "against"])
    p_values, beats = compared["p_holm"].min(), compared["beats"].any()
    rows = [f"| {' | '.join(['condition', *COLUMNS.values(), 'p, who is better'])} |", f"| --- |{' ---: |' * (len(COLUMNS) + 1)}"]
    for name in (n for n in CONDITIONS if (n, "bertscore") in total and (not trained or n == "model" or CONDITIONS[n].bridge != "model")):
        cells = [total[name, metric] for metric in COLUMNS]
        scores = [f"{cell['value']:.1f} [{cell['low_trials']:.1f}, {cell['high_trials']:.1f}]" for cell in cells]
        kind = " (null)" if CONDITIONS[name].kind == "null" else ""
        both = {"model": ("model", name), "it": (name, "model")}
        winner = next((who for who, pair in both.items() if beats.get(pair, False)), "–")
        p = "" if name == "model" else f"{min(p_values.get(pair, 1.0) for pair in both.values()):.2g}, {winner}"
        rows.append(f"| {CONDITIONS[name].title}{kind} | {' | '.join(scores)} | {p} |")
    return rows


def put(page: Path, tables: Mapping[str, Sequence[str]]) -> None:
    """Replace what stands between the marks of tables; those that have no marks in the page are left out.

    Raises:
        SystemExit: the page has marks of none of them.
    """
    text, places = page.read_text(), 0
    for name, lines in tables.items():
        start, end = f"<!-- {name}: written by a program -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(start)
        if found and end in rest:
            text, places = "\n".join([before + start, *lines, end]) + rest.partition(end)[2], places + 1
    if not places:
        sys.exit(f"{page}: found no place for {', '.join(tables)}, expected e.g. {start} and, below, {end}")
    page.write_text(text)


@click.command()
@click.option("--runs", default=3, show_default=True, help="Fresh clones, one after the other.")
@click.option("--target", default="demo", show_default=True, help="Of the Makefile: demo, demo-full, demo-snr0.")
@click.option("--results", type=click.Path(exists=True, path_type=Path), help="A finished run, in place of new ones.")
@click.option("--write", type=click.Path(exists=True, path_type=Path), help="Page to put the tables in; they are printed otherwise.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the clones, which are kept.")
def main(runs: int, target: str, results: Path | None, write: Path | None, keep: Path | None) -> None:
    """Measure the demo, and write its tables."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent = keep or Path(tempfile.mkdtemp(prefix="demo-"))
    taken = []
    for i in range(0 if results else runs):
        folder = parent / f"{target}-{i}"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        taken.append((measured(["make", "setup"], folder), measured(["make", target], folder)))
        click.echo(f"{target} {i + 1} of {runs}: {taken[-1]}", err=True)
        results_of = folder / "results" / ("demo-snr0" if target == "demo-snr0" else "demo")
    results = results or results_of
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.processor() or platform.machine()}"
    tables = {f"{target} rules": rule_table(results)}
    if taken:
        how = f"{len(taken)} clones on {machine}; minimum / median / maximum." if len(taken) > 1 else f"One clone on {machine}."
        tables[f"{target} time"] = [how, "", *time_table(taken, target)]
    for file in sorted((results / "tables").glob("*.tex")):
        tables[f"{target} {file.stem}"] = score_table(results, file.stem, trained=target == "demo-full")
    if write:
        put(write, tables)
    for name, lines in {} if write else tables.items():
        click.echo("\n".join([f"\n{name}", *lines]))


if __name__ == "__main__":
    main()
