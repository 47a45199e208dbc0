"""Command line `boldscribe …`: commands besides the pipeline, which Snakemake runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from boldscribe import __version__
from boldscribe.fetching.fetch_commands import fetch
from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.offline import forbid_network, is_offline
from boldscribe.machinery.runs.status_command import status
from boldscribe.machinery.usage_table import usage
from boldscribe.models.conversion.convert_command import convert
from boldscribe.planning.plan_command import plan
from boldscribe.power.power_command import power
from boldscribe.starting.init_command import init
from boldscribe.workflow import Config

DEMO = ROOT / "profiles" / "demo" / "experiment.yaml"


config_option = click.option(
    "--config",
    "configs",
    type=click.Path(path_type=Path),
    multiple=True,
    default=[DEMO],
    show_default="the demo's",
    help="Configuration file; can be repeated: later files override earlier ones.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """From fMRI and stimulus videos to text, every number accountable.

    The pipeline runs under Snakemake:

    \b
      make demo                          the embedded default, on this machine
      snakemake --profile slurm          the paper's experiment, on a cluster
      snakemake -n                       a dry run
    """
    if is_offline():
        forbid_network("boldscribe")


@main.command()
@config_option
@click.option("--dataset", "datasets", multiple=True, help="Data set to simulate; by default all simulated ones in the configuration.")
@click.option("--results", type=click.Path(path_type=Path), help="Write to RESULTS/raw/DATASET instead of the configured folder.")
@click.option("--seed", type=int, help="Seed instead of the configured one.")
@user_errors
def simulate(configs: tuple[Path, ...], datasets: tuple[str, ...], results: Path | None, seed: int | None) -> None:
    """Write raw BIDS data sets with rendered clips and simulated BOLD, for which the right answer is known."""
    from boldscribe.simulation.dataset import simulate_stimuli, simulate_subject

    config = Config.load(*configs)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if results is not None:
        changes["paths"] = {"results": str(results)}
    config = Config.model_validate({**config.model_dump(by_alias=True), **changes})
    for name in datasets or tuple(n for n in config.whole_datasets if config.datasets[n].simulated):
        if name not in config.whole_datasets or config.datasets[name].simulated is None:
            simulated = ", ".join(n for n in config.whole_datasets if config.datasets[n].simulated) or "none"
            raise UserError(
                "--dataset", f"found {name!r}, expected a data set with a 'simulated' section; the configuration has: {simulated}"
            )
        design = config.datasets[name].simulated
        assert design is not None
        click.echo(f"{name}: clips")
        simulate_stimuli(config, name)
        for i in range(1, design.subjects + 1):
            click.echo(f"{name}: sub-{i:02d} of {design.subjects}")
            simulate_subject(config, name, f"{i:02d}")
        click.echo(f"{name}: written to {config.datasets[name].bids_dir}")


@main.command()
@click.option("--write", is_flag=True, help="Write config.yaml and schemas/ in the checkout.")
@user_errors
def config(write: bool) -> None:
    """Print the paper's configuration with the meaning and source of every key."""
    from boldscribe.config.config_files import config_yaml, generated_files

    if not write:
        click.echo(config_yaml(), nl=False)
    else:
        for path, content in generated_files(ROOT).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            click.echo(path.relative_to(ROOT))


@main.command()
@click.argument("paths", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--fast", is_flag=True, help="Assume that a file's content is unchanged if its size, times and inode are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@user_errors
def audit(paths: tuple[Path, ...], fast: bool, as_json: bool) -> None:
    """Verify that results are as they were written, and as they would be made today.

    PATHS are results trees, or files and folders in them, which are checked with everything that they were made from. Exit code: 0,
    all verified; 3, something is stale, uncommitted or unpinned; 4, something is tampered with, unrecorded or an orphan.
    """
    from boldscribe.machinery.provenance.audit_commands import audit_json, audited, console, exit_code, print_audit

    found = []
    for results, _, findings in audited(paths, fast):
        found += findings
        if as_json:
            click.echo(audit_json(results, findings))
        else:
            print_audit(results, findings, console())
    sys.exit(exit_code(found))


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--row", help="Row of a table's cell: Subject-1, ..., or Total.")
@click.option("--column", help="Column of a table's cell: bertscore, sacrebleu_1, ...")
@click.option("--condition", default="model", show_default=True, help="Condition of a table's cell.")
@click.option("--brief", is_flag=True, help="Print only names, digests and rules.")
@user_errors
def explain(path: Path, row: str | None, column: str | None, condition: str, brief: bool) -> None:
    """Trace a result, or a cell of a table, down to raw data."""
    from boldscribe.machinery.provenance.audit_commands import console

    if row is None and column is None:
        from boldscribe.machinery.provenance.explain import explain

        console().print(explain(path, brief=brief))
    elif row is None or column is None:
        raise UserError(str(path), "a cell is identified by --row and --column together; give both")
    else:
        from boldscribe.evaluation.explained_cell import explain_cell

        console().print(explain_cell(path, row, column, condition, brief))


@main.command()
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@user_errors
def diff(a: Path, b: Path) -> None:
    """Explain why the runs in the results trees A and B differ: from a number to its first cause."""
    from boldscribe.machinery.provenance.audit_commands import console, print_difference
    from boldscribe.machinery.provenance.difference import compare

    print_difference(compare(a, b), console())


@main.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@user_errors
def crate(results: Path, folder: Path) -> None:
    """Export the run in RESULTS as a Workflow Run RO-Crate to FOLDER."""
    from boldscribe.machinery.provenance.crate import write_crate

    click.echo(write_crate(results, folder))


main.add_command(convert)
main.add_command(fetch)
main.add_command(plan)
main.add_command(power)
main.add_command(status)
main.add_command(init)
main.add_command(usage)


@main.command()
@user_errors
def doctor() -> None:
    """Report what this machine can and cannot run, and what to do about it."""
    from boldscribe.doctor import examine, print_report

    print_report(examine())


if __name__ == "__main__":
    main()
