"""Options of `boldscribe init --cluster`, which writes the site's settings from Slurm's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from boldscribe.errors import UserError

OPTIONS = (
    click.option("--account", help="Who pays; proposed where you have one account."),
    click.option("--qos", help="Quality of service."),
    click.option("--partition", "partitions", multiple=True, help="Use this partition; may repeat. All that are open to you by default."),
    click.option("--gpu-model", help="Model of GPU, as Slurm names it; any by default."),
    click.option("--gres", help="What is asked for in place of a whole GPU, e.g. the slice gpu:1g.10gb."),
    click.option(
        "--embedded-gpus", type=click.IntRange(min=0), help="GPUs for each GPU rule of the embedded default too; none by default."
    ),
    click.option("--constraint", help="Features that nodes must have."),
    click.option("--leave-before", type=click.IntRange(min=0), help="Seconds before its limit at which a training leaves; 300 by default."),
    click.option("--scratch", help="Folder on a node's own disk, e.g. '$TMPDIR'."),
    click.option("--experiment", multiple=True, help="Configuration that is meant where --configfile gives none; may repeat."),
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
    from boldscribe.cluster.asking import ask, proposal, site_text
    from boldscribe.cluster.site import ROOT, SITE
    from boldscribe.files import atomic

    if SITE.exists() and not force:
        raise UserError(str(SITE), "exists already, and nothing is overwritten; edit it, or give --force")
    chosen = {name: list(value) or None if isinstance(value, tuple) else value for name, value in chosen.items()}
    if absent := [file for file in chosen.get("experiment") or [] if not (ROOT / file).exists()]:
        raise UserError("--experiment", f"found no file {', '.join(absent)}; paths count from {ROOT}")
    found = ask()
    site = proposal(found, **chosen)
    with atomic(SITE) as part:
        part.write_text(site_text(site))
    for name, limits in site.partitions.items():
        click.echo(f"partition {name}: " + ", ".join(f"{key} {value}" for key, value in limits.items()))
    for remark in found.remarks:
        click.echo(f"note: {remark}")
    if site.account is None and found.accounts:
        click.echo(f"account: one of {', '.join(found.accounts)} must be chosen; name it by --account")
    if not any("max_gpu" in limits for limits in site.partitions.values()):
        click.echo("note: no partition has GPUs; the paper's experiment needs them")
    click.echo(f"{SITE.name}: written. Next: boldscribe fetch all, boldscribe plan, snakemake --profile slurm -n")
