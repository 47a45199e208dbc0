"""Commands of `boldscribe fetch`: download of data, weights, templates and containers (docs/fetching.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import click

from boldscribe.fetching.file_commands import (
    announce,
    base_url_option,
    dry_run_option,
    files,
    labels_of,
    manifest,
    parallel_option,
    subjects_option,
    unpack_command,
)
from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.files import ROOT

CONFIG = ROOT / "config.yaml"
path = click.Path(path_type=Path)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda function: reduce(lambda decorated, option: option(decorated), reversed(options), function)


config_option = click.option(
    "--config", "configs", type=path, multiple=True, default=[CONFIG], show_default="config.yaml", help="Configuration file(s)."
)
data_options = _options(
    config_option,
    subjects_option,
    click.option("--derivatives", is_flag=True, help="Also fetch the derivatives in the data set."),
    click.option(
        "--backend",
        type=click.Choice(["https", "git-annex", "datalad"]),
        default="https",
        show_default=True,
        help="git-annex and datalad make the folder a clone of the data set's repository; --base-url is then the address to clone.",
    ),
    base_url_option,
    parallel_option,
    dry_run_option,
)


@click.group()
def fetch() -> None:
    """Fetch the pipeline's inputs and verify each file's digest; the only commands that use the network."""


for command in (files, manifest, unpack_command):
    fetch.add_command(command)


@fetch.command("data")
@click.argument("dataset")
@data_options
@user_errors
def data(dataset: str, **options: Any) -> None:
    """Fetch what the experiment reads of DATASET, a configured data set with a manifest: raw data, stimuli, ready derivatives."""
    _data(dataset, None, **options)


@fetch.command("had")
@data_options
@user_errors
def had(**options: Any) -> None:
    """Fetch raw data and stimuli of HAD (OpenNeuro ds004488)."""
    _data("had", None, **options)


@fetch.command("stimuli")
@click.option("--dataset", default="had", show_default=True, help="Data set of the configuration.")
@data_options
@user_errors
def stimuli(dataset: str, **options: Any) -> None:
    """Fetch only the videos of a data set."""
    _data(dataset, ("stimuli",), **options)


def _data(
    dataset: str,
    parts: tuple[str, ...] | None,
    *,
    configs: Sequence[Path],
    subjects: str | None,
    derivatives: bool,
    backend: Any,
    base_url: str | None,
    parallel: int,
    dry_run: bool,
) -> None:
    from boldscribe.config import Config
    from boldscribe.fetching.datasets import fetch as fetch_selection
    from boldscribe.fetching.datasets import select

    parts = (*(parts or ("raw", "stimuli")), "derivatives") if derivatives else parts
    config = Config.load(*configs)
    if dataset not in config.whole_datasets:
        raise UserError("datasets", f"found no {dataset!r}, expected one of {', '.join(config.whole_datasets)}; correct the name")
    selection = select(config, dataset, parts=parts, subjects=labels_of(subjects))
    announce(dataset, selection, base_url)
    if not dry_run:
        fetch_selection(selection, backend=backend, base_url=base_url, parallel=parallel)
        click.echo(f"{selection.folder}: {len(selection.entries)} files present, each with the size and digest in the manifest")


@fetch.command("weights")
@config_option
@click.option("--asset", help="An asset of data/models.csv, or captioner; by default all configured ones.")
@click.option("--revision", metavar="COMMIT", help="Commit of the repository of --asset, if the table has none yet.")
@click.option("--endpoint", metavar="URL", help="Address of the hub or a mirror; by default HF_ENDPOINT, else the client's.")
@parallel_option
@dry_run_option
@user_errors
def weights(configs: Sequence[Path], asset: str | None, revision: str | None, endpoint: str | None, parallel: int, dry_run: bool) -> None:
    """Fetch model weights from one commit of their hub repository."""
    from dataclasses import replace

    from boldscribe.config import Config
    from boldscribe.fetching.weights import REVISION, configured_weights, fetch_weights

    rows = [
        replace(row, revision=revision) if revision and row.asset == asset else row for row in configured_weights(Config.load(*configs))
    ]
    if revision and (not asset or not REVISION.fullmatch(revision)):
        raise UserError("--revision", f"found {revision!r}, expected 40 hexadecimal digits, together with --asset")
    if asset and asset not in {row.asset for row in rows}:
        raise UserError("--asset", f"found {asset!r}, expected one of {', '.join(row.asset for row in rows) or 'none: all are embedded'}")
    _each(
        {
            row.asset: partial(fetch_weights, row, endpoint=endpoint, parallel=parallel, dry_run=dry_run, say=click.echo)
            for row in rows
            if asset in (None, row.asset)
        }
    )


@fetch.command("templates")
@config_option
@base_url_option
@parallel_option
@dry_run_option
@user_errors
def templates(configs: Sequence[Path], base_url: str | None, parallel: int, dry_run: bool) -> None:
    """Fetch fMRIPrep's templates to the folder preprocessing.templateflow_home."""
    from boldscribe.config import Config
    from boldscribe.fetching.template_files import fetch_templates, templateflow_home
    from boldscribe.fetching.template_files import templates as table
    from boldscribe.machinery.download.transfer import lacking
    from boldscribe.machinery.files import gigabytes

    folder = templateflow_home(Config.load(*configs))
    files = table()
    absent = lacking(list(files), folder)
    for licence in sorted({licence for _, licence in files.values()}):
        of_it = sorted({entry.path.partition("/")[0] for entry, (_, other) in files.items() if other == licence})
        click.echo(f"{', '.join(of_it)}; licence: {licence}")
    click.echo(f"  {len(files)} files; to fetch: {len(absent)} files, {gigabytes(sum(entry.size for entry in absent))}, to {folder}")
    if not dry_run:
        fetch_templates(folder, base_url=base_url, parallel=parallel)


@fetch.command("containers")
@config_option
@click.option("--engine", type=click.Choice(["apptainer", "docker"]), help="Container engine; by default the configured one.")
@click.option("--registry", metavar="URL", help="Registry to query for an unknown digest; by default that in the image's name.")
@dry_run_option
@user_errors
def containers(configs: Sequence[Path], engine: Any, registry: str | None, dry_run: bool) -> None:
    """Fetch fMRIPrep's image by digest: as a file for apptainer, or to docker's store."""
    from boldscribe.config import Config
    from boldscribe.fetching.container_images import fetch_container

    config = Config.load(*configs)
    if (chosen := engine or config.preprocessing.engine) not in ("apptainer", "docker"):
        click.echo(f"preprocessing.engine {chosen} uses no container")
        return
    fetch_container(config, chosen, click.echo, registry=registry, dry_run=dry_run)


@fetch.command("all")
@config_option
@parallel_option
@dry_run_option
@user_errors
def all_command(configs: Sequence[Path], parallel: int, dry_run: bool) -> None:
    """Fetch everything that the configured experiment reads: data sets with a manifest, weights, templates, containers."""
    from boldscribe.config import Config

    config = Config.load(*configs)
    common: dict[str, Any] = {"configs": configs, "dry_run": dry_run}
    jobs: dict[str, Callable[[], None]] = {}
    for name in config.whole_datasets:
        dataset = config.datasets[name]
        if dataset.manifest and not dataset.simulated:
            more: dict[str, Any] = {"subjects": None, "derivatives": False, "backend": "https", "base_url": None, "parallel": parallel}
            jobs[name] = partial(_data, name, None, **common, **more)
        elif not dataset.simulated:
            click.echo(
                f"{name}: has no manifest; put the data in {dataset.bids_dir or 'the folder that datasets.' + name + '.bids_dir names'}"
            )
    jobs["weights"] = partial(_unwrapped(weights), asset=None, revision=None, endpoint=None, parallel=parallel, **common)
    if config.preprocessing.runs_fmriprep:
        if config.preprocessing.templateflow_home:
            jobs["templates"] = partial(_unwrapped(templates), base_url=None, parallel=parallel, **common)
        jobs["containers"] = partial(_unwrapped(containers), engine=None, registry=None, **common)
    _each(jobs)


@fetch.command("missing")
@config_option
@user_errors
def missing_command(configs: Sequence[Path]) -> None:
    """List missing inputs of the configured experiment, each with the command that fetches it; uses no network.

    Exit code: 0, nothing is missing; 1, something is missing.
    """
    from boldscribe.config import Config
    from boldscribe.fetching.missing import config_options, missing

    found = missing(Config.load(*configs), config_options(configs))
    for one in found:
        click.echo(one)
    if found:
        sys.exit(1)
    click.echo("everything in the configuration is here")


def _unwrapped(command: click.Command) -> Callable[..., None]:
    """Return the function of a command, which raises errors instead of printing them."""
    function: Any = command.callback
    unwrapped: Callable[..., None] = function.__wrapped__
    return unwrapped


def _each(jobs: dict[str, Callable[[], None]]) -> None:
    """Run all jobs; a failed one does not stop the others.

    Raises:
        UserError: jobs failed.
    """
    problems = []
    for name, job in jobs.items():
        try:
            job()
        except UserError as error:
            problems.append((name, error))
    if len(problems) == 1:
        raise problems[0][1]
    if problems:
        raise UserError(", ".join(name for name, _ in problems), *[str(error) for _, error in problems])
