"""Site settings: `site.yaml` in the checkout, which git ignores. They state where jobs run, and no result depends on them.

Section `partitions` has the format of Snakemake's Slurm plugin, which picks the best-fitting partition for each job.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT

# this checkout's own, or one that a lab shares and names in the environment
SITE = Path(os.environ.get("BOLDSCRIBE_SITE") or ROOT / "site.yaml")
PROFILE = ROOT / "slurm"  # Snakemake's profile for the cluster


class Site(BaseModel):
    """Settings of this cluster, which `boldscribe init --cluster` writes from Slurm's answers; defaults without the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: list[str] = Field(
        default_factory=list, description="configuration files on top of config.yaml, used if --configfile gives none"
    )
    account: str | None = Field(default=None, description="account to charge (sbatch --account); null for the user's default")
    qos: str | None = Field(default=None, description="quality of service (sbatch --qos)")
    constraint: str | None = Field(default=None, description="features that nodes must have (sbatch --constraint)")
    partitions: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="limits of each partition, of which the plugin picks the best fit for each job"
    )
    gpu_model: str | None = Field(default=None, description="GPU model to request, as Slurm names it, e.g. a100")
    gres: str | None = Field(
        default=None, description="resource to request instead of a whole GPU, e.g. the slice gpu:1g.10gb; the number is added"
    )
    embedded_gpus: int = Field(default=0, ge=0, description="GPUs for each GPU rule of the embedded default too, which can run without")
    scratch: str | None = Field(
        default=None,
        description="folder on the node's own disk for copies of large inputs; variables like $TMPDIR and $USER are expanded on the node",
    )
    signal_before: int = Field(
        default=300, ge=0, description="seconds before the time limit at which a training run saves its state and is queued again"
    )


@cache
def load_site(path: Path = SITE) -> Site:
    """Load the site's settings; all defaults if there is no file.

    Raises:
        UserError: the file is not YAML, or has an unknown key or a value of the wrong type.
    """
    if not path.exists():
        return Site()
    try:
        content = yaml.safe_load(path.read_text()) or {}
        return Site.model_validate(content)
    except yaml.YAMLError as error:
        raise UserError(str(path), f"not YAML: {error}; write it again with `boldscribe init --cluster --force`") from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: found {e['input']!r}: {e['msg'].lower()}" for e in error.errors()]
        raise UserError(str(path), *problems, "see docs/hpc.md, or write it again with `boldscribe init --cluster --force`") from None


def scratch_folder(site: Site) -> Path | None:
    """Return this node's folder for copies of large inputs; None if the site names none, or a variable in its name is unset here."""
    if site.scratch is None:
        return None
    folder = os.path.expandvars(site.scratch)
    return None if "$" in folder else Path(folder)
