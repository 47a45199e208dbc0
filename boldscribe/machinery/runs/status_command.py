"""`boldscribe status`: progress of a run, and causes of failed jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.files import ROOT

if TYPE_CHECKING:
    from boldscribe.machinery.runs.status import Overview

PAPER = ROOT / "config.yaml"
WIDTH = 120
# reasons for which a job waits forever
NEVER = (
    "PartitionConfig",
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "QOSMaxMemoryPerJob",
    "QOSMaxCpuPerJobLimit",
    "QOSMaxGRESPerJob",
    "QOSMaxWallDurationPerJobLimit",
    "AssocMaxCpuPerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
    "JobHeldUser",
    "JobHeldAdmin",
    "DependencyNeverSatisfied",
)
path = click.Path(path_type=Path)


@click.command()
@click.argument("results", type=path, required=False)
@click.option(
    "--config",
    "configs",
    type=path,
    multiple=True,
    help="File merged over config.yaml, if no run has started yet; may be repeated.",
)
@click.option("--failures", is_flag=True, help="Show only failed jobs: cause, remedy, last lines, log.")
@click.option("--watch", is_flag=True, help="Refresh until everything is done or Ctrl-C.")
@click.option("--every", type=click.FloatRange(min=1), default=15, show_default=True, help="Seconds between refreshes of --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@user_errors
def status(results: Path | None, configs: tuple[Path, ...], failures: bool, watch: bool, every: float, as_json: bool) -> None:
    """Show the state of each job of the run in RESULTS; by default of the run that was started last.

    It is read from records on disk, from Slurm's queue if there is one, and from the processes on this machine. Exit code: 1 if a job has
    failed and has not been completed since.
    """
    import json

    from rich.console import Console
    from rich.live import Live

    from boldscribe.machinery.runs import failures as failing
    from boldscribe.machinery.runs import table
    from boldscribe.machinery.runs.local_steps import workflow_folder
    from boldscribe.machinery.runs.status import DONE, config_of, survey

    folder = workflow_folder()
    results = results or _latest(folder, configs)
    config = config_of(results, [PAPER, *configs] if configs else [])
    overview = survey(config, results, folder)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if as_json:
        content = table.as_json(overview) | {"failures": failing.as_json(overview.failures())}
        click.echo(json.dumps(content, indent=1))
    elif failures:
        click.echo("\n".join(failing.summary(overview.failures()) or ["No job has failed."]))
    elif watch:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(table.render(overview, sentences(overview, folder)), refresh=True)
                if overview.counts()[DONE] == len(overview.states):
                    break
                try:
                    time.sleep(every)
                except KeyboardInterrupt:
                    break
                overview = survey(config, results, folder)
    else:
        console.print(table.render(overview, sentences(overview, folder)), highlight=False)
    sys.exit(1 if overview.failures() else 0)


def sentences(overview: Overview, folder: Path) -> Sequence[str]:
    """Return the lines above the table: counts, time left, the active controller, and what is unknown."""
    from boldscribe.machinery.cluster.controller import at_work
    from boldscribe.machinery.runs.progress import time_left_sentence
    from boldscribe.machinery.runs.status import DONE, STATES

    counts = overview.counts()
    others = ", ".join(f"{counts[state]} {state}" for state in STATES[1:] if counts[state])
    said = [f"{overview.results}: {counts[DONE]} of {len(overview.states)} jobs done" + (f", {others}" if others else "") + "."]
    controller = at_work(folder)
    if controller is not None:
        started = datetime.fromisoformat(controller["since"]).astimezone(UTC)
        left = time_left_sentence(overview, started, "slurm" in controller["command"])
        since = controller["since"].replace("T", " ")[:16]
        said.append(
            f"Snakemake is running: process {controller['process']} on {controller['host']}, since {since}; {left or 'all is done'}."
        )
    elif counts[DONE] < len(overview.states):
        left = time_left_sentence(overview, datetime.now(UTC))
        said.append(f"No Snakemake is running in {folder} on this machine; the run's command continues from here: {left}.")
    if unnamed := sum(overview.unnamed.values()):
        said.append(f"{unnamed} tasks of job arrays are in the queue; Slurm does not report their subjects or shards.")
    stuck = [s for s in overview.states if s.reason.partition(",")[0].strip("()") in NEVER]
    if stuck:
        reasons = ", ".join(dict.fromkeys(s.reason for s in stuck))
        numbers = " ".join(s.slurm for s in stuck[:5])
        said.append(
            f"{len(stuck)} queued jobs will not start as submitted ({reasons}): `boldscribe plan` shows what partitions allow; "
            f"scancel {numbers}{' ...' if len(stuck) > 5 else ''}, and start again with smaller requests."
        )
    if overview.other:
        said.append(f"{overview.other} more jobs in the queue were submitted from this folder for another experiment.")
    if counts["failed"]:
        said.append(f"Why jobs failed and what to do: boldscribe status {overview.results} --failures")
    return said


def _latest(folder: Path, configs: Sequence[Path]) -> Path:
    """Return the results tree of configuration files, or else of the run that was started last."""
    from boldscribe.machinery.registry import the_workflow

    if configs:
        return Path(the_workflow().experiment.load(PAPER, *configs).paths.results)
    runs = [*(folder / "results").glob("run.json"), *(folder / "results").glob("*/run.json")]
    if not runs:
        raise UserError(str(folder / "results"), "found no run, expected one that was started; pass its results folder, or --config")
    newest = max(runs, key=lambda p: p.stat().st_mtime).parent
    return newest.relative_to(Path.cwd()) if newest.is_relative_to(Path.cwd()) else newest
