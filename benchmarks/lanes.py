"""What the tests take, from what `.ci/run` printed: `python -m benchmarks.lanes LOG [--write docs/testing.md]`.

A row for each lane (a call of pytest) and for each command that `.ci/run` times, and the slowest tests of all lanes.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from benchmarks.demo import put

LANES = {
    "tests/dag": "the real DAG",
    'tests/method -m "not slow"': "method",
    'tests/machinery -m "not slow"': "machinery",
    'tests/slurm -m "not slow"': "Slurm",
    "tests/method tests/machinery -m slow": "slow",
    "tests/slurm -m slow": "the demo on Slurm",
}
COMMANDS = ("make setup", "make test", "make test-slurm")  # in the order of .ci/run
SHOWN = 25


def lanes(log: str) -> list[str]:
    """Rows: lane, tests by outcome, minutes."""
    rows = ["| lane | tests | min |", "| --- | --- | ---: |"]
    for command, part in _calls(log):
        told = re.search(r"(?m)^(\d+ (?:passed|failed).*?) in ([\d.]+)s", part)
        name = next((name for start, name in LANES.items() if command.startswith(start)), command)
        if told:
            outcomes = re.sub(r", \d+ (deselected|warnings?)", "", told[1])
            rows.append(f"| {name} | {outcomes} | {float(told[2]) / 60:.1f} |")
    taken = [60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(r"(?m)^real\t(\d+)m([\d.]+)s$", log)]
    rows += [f"| `{command}` | | {seconds / 60:.1f} |" for command, seconds in zip(COMMANDS, taken, strict=False)]
    return [*rows, f"| all | | {sum(taken[: len(COMMANDS)]) / 60:.1f} |"]


def slowest(log: str) -> list[str]:
    """Rows: seconds, phase, test; the slowest first."""
    found = re.findall(r"(?m)^([\d.]+)s (call|setup|teardown) +(\S+)", log)
    rows = sorted(((float(seconds), phase, test) for seconds, phase, test in found), reverse=True)[:SHOWN]
    return ["| s | | test |", "| ---: | --- | --- |", *(f"| {seconds:.0f} | {phase} | `{test}` |" for seconds, phase, test in rows)]


def _calls(log: str) -> list[tuple[str, str]]:
    """Each call of pytest, less that word, with what was printed after it."""
    parts = re.split(r"(?m)^pytest (.*)$", log)
    return list(zip(parts[1::2], parts[2::2], strict=True))


@click.command()
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--write", type=click.Path(exists=True, path_type=Path), help="Page to put the tables in; they are printed otherwise.")
def main(log: Path, write: Path | None) -> None:
    """Read a log of CI, and print or write its tables."""
    text = log.read_text()
    tables = {"lanes": lanes(text), "slowest tests": slowest(text)}
    if write:
        put(write, tables)
    for name, rows in {} if write else tables.items():
        click.echo("\n".join([f"\n{name}", *rows]))


if __name__ == "__main__":
    main()
