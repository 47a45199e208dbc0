"""Snakemake's plan of an experiment, without running any of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from snakemake.api import ConfigSettings, DAGSettings, GroupSettings, OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.enums import Quietness

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT


@contextmanager
def planned(
    configs: Sequence[Path] = (),
    changes: Mapping[str, Any] | None = None,
    targets: Iterable[str] = (),
    resources: ResourceSettings | None = None,
    groups: GroupSettings | None = None,
) -> Iterator[Any]:
    """Yield Snakemake's workflow with its plan made; restore the working folder and the environment afterwards.

    Args:
        configs: configuration files over config.yaml, as for `snakemake --configfile`.
        changes: keys that override these, as for `snakemake --config`.
        targets: files or rules; all by default.
        resources: limits of the whole run; none by default, as on a cluster.
        groups: which jobs are grouped into one.

    Raises:
        UserError: the plan cannot be made; Snakemake's message is printed above.
    """
    with _unchanged(), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        made = api.workflow(
            resource_settings=resources or ResourceSettings(nodes=1),
            config_settings=ConfigSettings(config=dict(changes or {}), configfiles=[path.resolve() for path in configs]),
            snakefile=ROOT / "Snakefile",
            workdir=ROOT,
        )
        try:
            made.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun", group_settings=groups or GroupSettings())
        except Exception as error:
            api.print_exception(error)
            raise UserError("Snakefile", "no plan can be made; see the message above") from None
        yield made._workflow


@contextmanager
def _unchanged() -> Iterator[None]:
    """Restore the working folder and the environment, which the rules change for their jobs."""
    before = dict(os.environ)
    try:
        with chdir(Path.cwd()):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
