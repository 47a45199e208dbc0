"""Commands of `boldscribe fetch` that need no configuration: files of a manifest, manifests, archives (docs/fetching.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from boldscribe.machinery.errors import UserError, user_errors

path = click.Path(path_type=Path)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be fetched, from where and how much, and fetch nothing.")
subjects_option = click.option("--subjects", metavar="LABELS", help="Subjects, such as 01,02; by default the configured ones, or all.")
base_url_option = click.option("--base-url", metavar="URL", help="Mirror with the same tree, to use instead of the manifest's store.")
parallel_option = click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Number of parallel downloads.")


def labels_of(subjects: str | None) -> list[str] | None:
    """Return the labels of an option such as `01,sub-02`; None if it is not given."""
    return [label.strip().removeprefix("sub-") for label in subjects.split(",")] if subjects else None


@click.command("files")
@click.argument("manifest", type=path)
@click.argument("folder", type=path)
@subjects_option
@base_url_option
@parallel_option
@dry_run_option
@user_errors
def files(manifest: Path, folder: Path, subjects: str | None, base_url: str | None, parallel: int, dry_run: bool) -> None:
    """Fetch all files of a MANIFEST to FOLDER, such as derivatives that the configuration reads."""
    from boldscribe.fetching.datasets import Selection
    from boldscribe.fetching.datasets import fetch as fetch_selection
    from boldscribe.machinery.download.manifest import PARTS, read_manifest

    listed = read_manifest(manifest)
    selection = Selection(listed, listed.selected(PARTS, labels_of(subjects)), folder)
    announce(manifest.name, selection, base_url)
    if not dry_run:
        fetch_selection(selection, base_url=base_url, parallel=parallel)


def announce(name: str, selection: Any, base_url: str | None) -> None:
    """Print data set, licence, amount to fetch, source and destination."""
    from boldscribe.machinery.download.transfer import lacking
    from boldscribe.machinery.files import gigabytes

    source = selection.manifest.source
    click.echo(f"{name}: {source['accession']} {source['version']}, {source['name']}; licence: {source['licence'] or 'not stated'}")
    absent = lacking(selection.entries, selection.folder)
    size = gigabytes(sum(entry.size for entry in absent))
    click.echo(f"  {len(selection.entries)} files, {gigabytes(selection.size)}; to fetch: {len(absent)} files, {size}")
    click.echo(f"  from {base_url or source['base_url']} to {selection.folder}")


@click.command("manifest")
@click.argument("clone", type=path)
@click.option("--tag", required=True, help="Tag of the version, or a commit.")
@click.option("--out", type=path, required=True, help="Parquet file to write, e.g. data/manifests/ds004488-1.1.1.parquet.")
@click.option("--only", multiple=True, metavar="PATTERN", help="List only files whose path matches; can be repeated. * also matches /.")
@click.option("--git-url", metavar="URL", help="Address that the repository was cloned from; by default the clone's origin.")
@click.option("--base-url", metavar="URL", help="Address of the files; by default the store named in the branch git-annex.")
@user_errors
def manifest(clone: Path, tag: str, out: Path, only: tuple[str, ...], git_url: str | None, base_url: str | None) -> None:
    """List a data set's files from CLONE, a clone of its OpenNeuro repository with the branch git-annex; needs no file content."""
    from boldscribe.machinery.download.manifest import write_manifest
    from boldscribe.machinery.download.openneuro import build_manifest
    from boldscribe.machinery.files import gigabytes

    made = build_manifest(clone, tag, only=only, base_url=base_url, git_url=git_url)
    for name, why in made.left_out.items():
        click.echo(f"left out: {name}: {why}")
    if not made.files:
        raise UserError("--only", f"found no file to list that matches {', '.join(only) or '*'}, expected some; correct the patterns")
    write_manifest(made, out)
    unversioned = sum(entry.version_id is None and not entry.in_git for entry in made.files)
    click.echo(f"{out}: {len(made.files)} files, {gigabytes(made.size)}, {unversioned} of them large and without a version in the store")


@click.command("unpack")
@click.argument("archive", type=path)
@click.argument("folder", type=path)
@user_errors
def unpack_command(archive: Path, folder: Path) -> None:
    """Unpack ARCHIVE, a downloaded tar or zip file, to the new FOLDER; nothing is written outside it."""
    from boldscribe.machinery.download.archives import unpack

    unpack(archive, folder)
    click.echo(folder)
