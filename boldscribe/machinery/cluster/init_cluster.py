"""Options of `boldscribe init --cluster`, which writes the site's settings from Slurm's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT

OPTIONS = (
    click.option("--account", help="Account to charge; filled in if you have only one."),
    click.option("--qos", help="Quality of service."),
    click.option("--partition", "partitions", multiple=True, help="Partition to use; may be repeated. All open to you by default."),
    click.option("--gpu-model", help="GPU model, as Slurm names it; any by default."),
    click.option("--gres", help="Resource to request instead of a whole GPU, e.g. the slice gpu:1g.10gb."),
    click.option("--embedded-gpus", type=click.IntRange(min=0), help="GPUs for each GPU rule of the embedded default; none by default."),
    click.option("--constraint", help="Features that nodes must have."),
    click.option(
        "--signal-before", type=click.IntRange(min=0), help="Training runs exit this many seconds before their limit; 300 by default."
    ),
    click.option("--scratch", help="Folder on a node's own disk, e.g. '$TMPDIR'."),
    click.option("--experiment", multiple=True, help="Configuration to use if --configfile gives none; may be repeated."),
)


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that go with `--cluster`."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def write_site(force: bool, **chosen: Any) -> None:
    """Query Slurm, write site.yaml, and report what was found.

    Args:
        force: overwrite the file.
        chosen: settings given by the user.

    Raises:
        UserError: the file already exists, Slurm does not answer, or a setting names something that the cluster does not have.
    """
    from boldscribe.machinery.cluster.asking import ask, proposal, site_text
    from boldscribe.machinery.cluster.site import SITE
    from boldscribe.machinery.files import atomic

    if SITE.exists() and not force:
        raise UserError(str(SITE), "already exists; edit it, or pass --force to overwrite it")
    chosen = {name: list(value) or None if isinstance(value, tuple) else value for name, value in chosen.items()}
    if absent := [file for file in chosen.get("experiment") or [] if not (ROOT / file).exists()]:
        raise UserError("--experiment", f"found no file {', '.join(absent)}; paths are relative to {ROOT}")
    found = ask()
    site = proposal(found, **chosen)
    with atomic(SITE) as part:
        part.write_text(site_text(site))
    for name, limits in site.partitions.items():
        click.echo(f"partition {name}: " + ", ".join(f"{key} {value}" for key, value in limits.items()))
    for remark in found.remarks:
        click.echo(f"note: {remark}")
    if site.account is None and found.accounts:
        click.echo(f"account: not set; choose one of {', '.join(found.accounts)} with --account")
    if not any("max_gpu" in limits for limits in site.partitions.values()):
        click.echo("note: no partition has GPUs; the paper's experiment needs them")
    click.echo(f"{SITE.name}: written. Next: boldscribe fetch all, boldscribe plan, snakemake --profile slurm -n")
