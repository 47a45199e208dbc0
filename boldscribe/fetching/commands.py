"""`boldscribe fetch`: data, weights, templates and containers from outside (docs/fetching.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from boldscribe.errors import UserError, user_errors

CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"
path = click.Path(path_type=Path)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


config_option = click.option(
    "--config", "configs", type=path, multiple=True, default=[CONFIG], show_default="config.yaml", help="Configuration file(s)."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be fetched, from where and how much, and fetch nothing.")
base_url_option = click.option("--base-url", metavar="URL", help="Mirror that holds the same tree, instead of the manifest's store.")
parallel_option = click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at a time.")
data_options = _options(
    config_option,
    click.option("--subjects", metavar="LABELS", help="Subjects, as 01,02; by default those that the configuration names."),
    click.option("--derivatives", is_flag=True, help="The derivatives that the data set carries, too."),
    click.option(
        "--backend",
        type=click.Choice(["https", "git-annex", "datalad"]),
        default="https",
        show_default=True,
        help="git-annex and datalad make the folder a clone of the data set's repository; --base-url is then where to clone from.",
    ),
    base_url_option,
    parallel_option,
    dry_run_option,
)


@click.group()
def fetch() -> None:
    """Fetch what the pipeline reads, each file by its digest; the only commands that use the network."""


@fetch.command("data")
@click.argument("dataset")
@data_options
@user_errors
def data(dataset: str, **options: Any) -> None:
    """Raw data and stimuli of DATASET, a data set of the configuration that has a manifest."""
    _data(dataset, ("raw", "stimuli"), **options)


@fetch.command("had")
@data_options
@user_errors
def had(**options: Any) -> None:
    """Raw data and stimuli of HAD (OpenNeuro ds004488)."""
    _data("had", ("raw", "stimuli"), **options)


@fetch.command("stimuli")
@click.option("--dataset", default="had", show_default=True, help="Data set of the configuration.")
@data_options
@user_errors
def stimuli(dataset: str, **options: Any) -> None:
    """The videos of a data set alone."""
    _data(dataset, ("stimuli",), **options)


def _data(
    dataset: str,
    parts: tuple[str, ...],
    *,
    configs: Sequence[Path],
    subjects: str | None,
    derivatives: bool,
    backend: Any,
    base_url: str | None,
    parallel: int,
    dry_run: bool,
) -> None:
    from boldscribe.config import load_config
    from boldscribe.fetching.datasets import fetch as fetch_selection
    from boldscribe.fetching.datasets import select

    chosen = [label.strip().removeprefix("sub-") for label in subjects.split(",")] if subjects else None
    selection = select(load_config(*configs), dataset, parts=(*parts, "derivatives") if derivatives else parts, subjects=chosen)
    _announce(dataset, selection, base_url)
    if not dry_run:
        fetch_selection(selection, backend=backend, base_url=base_url, parallel=parallel)
        click.echo(f"{selection.folder}: {len(selection.entries)} files are there, each with the size and digest of the manifest")


@fetch.command("files")
@click.argument("manifest", type=path)
@click.argument("folder", type=path)
@base_url_option
@parallel_option
@dry_run_option
@user_errors
def files(manifest: Path, folder: Path, base_url: str | None, parallel: int, dry_run: bool) -> None:
    """All files of a MANIFEST to FOLDER, as of derivatives that the configuration reads."""
    from boldscribe.fetching.datasets import Selection
    from boldscribe.fetching.datasets import fetch as fetch_selection
    from boldscribe.fetching.manifest import PARTS, read_manifest

    listed = read_manifest(manifest)
    selection = Selection(listed, listed.selected(PARTS), folder)
    _announce(manifest.name, selection, base_url)
    if not dry_run:
        fetch_selection(selection, base_url=base_url, parallel=parallel)


def _announce(name: str, selection: Any, base_url: str | None) -> None:
    """Which data set, under which terms, how much of it is lacking, and where it is to come from."""
    from boldscribe.fetching.transfer import gigabytes, lacking

    source = selection.manifest.source
    click.echo(f"{name}: {source['accession']} {source['version']}, {source['name']}; licence: {source['licence'] or 'not stated'}")
    absent = lacking(selection.entries, selection.folder)
    size = gigabytes(sum(entry.size for entry in absent))
    click.echo(f"  {len(selection.entries)} files, {gigabytes(selection.size)}; to fetch: {len(absent)} files, {size}")
    click.echo(f"  from {base_url or source['base_url']} to {selection.folder}")


@fetch.command("manifest")
@click.argument("clone", type=path)
@click.option("--tag", required=True, help="Version, or a commit.")
@click.option("--out", type=path, required=True, help="Parquet file to write, e.g. data/manifests/ds004488-1.1.1.parquet.")
@click.option("--only", multiple=True, metavar="PATTERN", help="List files whose path fits alone; can be repeated. * takes in /.")
@click.option("--git-url", metavar="URL", help="Where the repository was cloned from, if its origin does not say so.")
@click.option("--base-url", metavar="URL", help="Where the files are, if not in the store that the branch git-annex names.")
@user_errors
def manifest(clone: Path, tag: str, out: Path, only: tuple[str, ...], git_url: str | None, base_url: str | None) -> None:
    """List a data set's files from CLONE, a clone of its OpenNeuro repository with the branch git-annex; no content is needed."""
    from boldscribe.fetching.manifest import write_manifest
    from boldscribe.fetching.openneuro import build_manifest
    from boldscribe.fetching.transfer import gigabytes

    made = build_manifest(clone, tag, only=only, base_url=base_url, git_url=git_url)
    if not made.files:
        raise UserError("--only", f"found no file that fits {', '.join(only)}, expected some; correct the patterns")
    write_manifest(made, out)
    unversioned = sum(entry.version_id is None and not entry.in_git for entry in made.files)
    click.echo(f"{out}: {len(made.files)} files, {gigabytes(made.size)}, {unversioned} of them large and without a version in the store")
