"""`boldscribe plan`: needs of an experiment, compared with what is free."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boldscribe.machinery.errors import user_errors
from boldscribe.machinery.files import ROOT

if TYPE_CHECKING:
    from rich.console import Console

    from boldscribe.machinery.runs.slurm_partitions import Partition
    from boldscribe.planning.free import Verdict
    from boldscribe.planning.stages import Line, Plan

PAPER = ROOT / "config.yaml"
WIDTH = 120
path = click.Path(path_type=Path)


@click.command()
@click.option(
    "--config", "configs", type=path, multiple=True, help="File merged over config.yaml, as by `snakemake --configfile`; may be repeated."
)
@click.option("--results", type=path, help="Results tree, whose ledger refines the plan; paths.results by default.")
@click.option(
    "--jobs",
    "at_once",
    type=click.IntRange(min=1),
    help="Jobs at the same time, as passed to Snakemake; as many as the cores allow by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the source of every figure.")
@click.option("--sbatch", is_flag=True, help="Print the sbatch commands instead: a line per rule, for its largest job.")
@user_errors
def plan(configs: tuple[Path, ...], results: Path | None, at_once: int | None, as_json: bool, sbatch: bool) -> None:
    """Estimate what an experiment takes before it runs, and check whether this machine has it.

    Exit code: 0 if it fits, 1 if something does not.
    """
    if sbatch:
        from boldscribe.machinery.cluster.submissions import submissions

        for line in submissions(configs):
            click.echo(f"{line.jobs:>5} x  {line.command}")
        return
    import json
    from dataclasses import asdict

    from rich.console import Console

    from boldscribe.config import Config
    from boldscribe.machinery.cluster.site import load_site
    from boldscribe.machinery.runs import slurm_partitions
    from boldscribe.planning.free import cores, verdicts
    from boldscribe.planning.stages import make_plan
    from boldscribe.planning.wall import wall

    config = Config.load(PAPER, *configs)
    results = results or Path(config.paths.results)
    made = make_plan(config, results, cores(), at_once)
    partitions, site = slurm_partitions.look(), load_site()
    judged = verdicts(config, made, results, partitions, site)
    duration = wall(config, made, results, slurm_partitions.usable(partitions, site) if partitions else None, at_once)
    if as_json:
        content = {
            "lines": [asdict(line) for line in made.lines],
            "total": asdict(made.total()),
            "assumed": made.assumed,
            "verdicts": [asdict(v) for v in judged],
            "partitions": None if partitions is None else [slurm_partitions.as_json(p) for p in partitions],
            "wall": asdict(duration),
        }
        click.echo(json.dumps(content, indent=1))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
        print_plan(made, console)
        if partitions:
            print_partitions(partitions, slurm_partitions.usable(partitions, site), console)
        print_verdicts(judged, console)
        console.print(duration.sentence(), highlight=False)
    sys.exit(0 if all(v.fits for v in judged) else 1)


def print_plan(plan: Plan, console: Console) -> None:
    """Print the lines by data set, the total, and the assumptions."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="Resources needed (GB of disk, hours of cores and GPUs)", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for header in ("data set", "stage"):
        table.add_column(header, no_wrap=True)
    for header in ("jobs", "download", "kept", "scratch", "files", "CPU h", "GPU h", "memory"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("known from")
    shown = None
    for line in plan.lines:
        name = line.dataset or "all"
        table.add_row("" if name == shown else name, line.stage, *_cells(line), escape(line.known_from))
        shown = name
    table.add_section()
    table.add_row("", "total", *_cells(plan.total()), "")
    console.print(table)
    for sentence in plan.assumed:
        console.print(f"Not known: {escape(sentence)}.", highlight=False)


def _cells(line: Line) -> list[str]:
    numbers = [line.download / 1e9, line.kept / 1e9, line.scratch / 1e9]
    files = line.inodes + line.inodes_scratch
    return [
        f"{line.jobs:,}" if line.jobs else "",
        *(_amount(n) for n in numbers),
        f"{files:,}" if files else "",
        _amount(line.cpu_hours),
        _amount(line.gpu_hours),
        _amount(line.memory),
    ]


def _amount(number: float) -> str:
    """Format with two decimals if small, none if large; empty for 0."""
    if number == 0:
        return ""
    if number < 0.005:
        return "<0.01"
    return f"{number:.2f}" if number < 10 else f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def print_verdicts(judged: list[Verdict], console: Console) -> None:
    """Print what is needed and found, and whether it suffices."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Does it fit?", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("", "needed", "found", "fits", "remark"):
        table.add_column(header, overflow="fold")
    for v in judged:
        fits = "[green]yes[/green]" if v.fits else "[red]no[/red]"
        table.add_row(escape(v.what), v.needed, v.found, fits, escape(v.note))
    console.print(table)


def print_partitions(partitions: Sequence[Partition], used: Sequence[Partition], console: Console) -> None:
    """Print Slurm's partitions: limits, free resources, waiting jobs."""
    from rich import box
    from rich.table import Table

    from boldscribe.machinery.runs.slurm_partitions import row

    table = Table(title="Slurm's partitions now (free of total)", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("partition", "time limit", "nodes", "CPUs", "GPUs", "largest node", "jobs waiting", "used"):
        table.add_column(header, overflow="fold")
    for partition in partitions:
        table.add_row(*row(partition), "yes" if partition in used else "")
    console.print(table)
