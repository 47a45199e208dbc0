"""`sbatch` commands of an experiment's jobs, for `boldscribe plan --sbatch`. Nothing is submitted.

The lines are those of Snakemake's Slurm plugin for the jobs of its plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import snakemake.logging
import snakemake_executor_plugin_slurm as plugin
from snakemake.api import GroupSettings, ResourceSettings
from snakemake.cli import parse_args
from snakemake_executor_plugin_slurm import ExecutorSettings
from snakemake_executor_plugin_slurm.partitions import Partition, get_best_partition, read_partition_file
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from boldscribe.machinery.cluster.dryrun import planned
from boldscribe.machinery.cluster.site import PROFILE, SITE
from boldscribe.machinery.errors import UserError


@dataclass(frozen=True)
class Submission:
    """Jobs of a rule in the queue: their number, and the command for the one that requests the most memory."""

    rule: str
    jobs: int
    command: str


def submissions(configs: Sequence[Path] = (), targets: Iterable[str] = ()) -> list[Submission]:
    """Return one line per rule whose jobs would be submitted, in the order of the plan.

    Args:
        configs: configuration files over config.yaml, as for `snakemake --configfile`.
        targets: files or rules; all by default.

    Raises:
        UserError: the plan cannot be made; Snakemake's message is printed above.
    """
    jobs = _planned(configs, targets)
    partitions = read_partition_file(SITE) if SITE.exists() else []
    by_rule: dict[str, list[Any]] = {}
    for job in jobs:
        by_rule.setdefault(_rule(job), []).append(job)
    largest = {rule: max(some, key=lambda job: job.resources.get("mem_mb") or 0) for rule, some in by_rule.items()}
    return [Submission(rule, len(by_rule[rule]), _command(job, partitions)) for rule, job in largest.items()]


def submitted(dag: Any, jobs: Iterable[Any]) -> list[Any]:
    """Return what Slurm receives of a plan's jobs: single jobs, or the groups that contain them."""
    return list(dict.fromkeys(dag.get_job_group(job) or job for job in jobs))


def _rule(job: Any) -> str:
    """Return the name of a job's rule, or of the first one in a group."""
    return str(min(job.jobs, key=lambda j: j.jobid).rule.name if job.is_group() else job.rule.name)


def unfit(jobs: Iterable[Any], partitions: Sequence[Partition]) -> list[str]:
    """List the rules with a job that fits no partition, with its request: Slurm would keep it waiting forever."""
    found: dict[str, str] = {}
    for job in jobs:
        if not job.is_local and (rule := _rule(job)) not in found and all(p.score_job_fit(job) is None for p in partitions):
            asked = {name: job.resources.get(name) for name in ("mem_mb", "runtime", "gpu", "gpu_model", "gres")}
            named = ", ".join(f"{name} {value}" for name, value in {"threads": job.threads, **asked}.items() if value)
            group = f"; {len(job.jobs)} jobs share it: lower --group-components" if job.is_group() and len(job.jobs) > 1 else ""
            found[rule] = f"{rule}: no partition can hold a job with {named}{group}"
    return list(found.values())


def check_partitions(workflow: Any) -> None:
    """Refuse a run on Slurm before its first job is submitted, if a job of the plan fits no partition of the site's settings.

    Args:
        workflow: Snakemake's workflow at its start.

    Raises:
        UserError: a job fits no partition; names the rules and what to change.
    """
    if not SITE.exists():
        return
    partitions = read_partition_file(SITE)
    if partitions and (problems := unfit(submitted(workflow.dag, workflow.dag.needrun_jobs()), partitions)):
        raise UserError(
            str(SITE), *problems, "add a partition that can, or request less with `--set-resources RULE:mem_mb=…` or `--set-threads`"
        )


def hear_of_cancelled_jobs() -> None:
    """Make Snakemake notice jobs that were cancelled.

    Slurm's accounting reports them as `CANCELLED by UID`. Version 2.8.0 of the plugin only knows `CANCELLED`, and would treat such a job as
    running forever. With a version that knows both, this changes nothing.
    """
    ask = plugin.query_job_status

    async def ask_for_words(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await ask(command, logger)
        return None if states is None else {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    plugin.query_job_status = ask_for_words


def _planned(configs: Sequence[Path], targets: Iterable[str]) -> list[Any]:
    with redirect_stderr(StringIO()):  # where `parse_args` names the profiles
        _, profile = parse_args(["--profile", str(PROFILE)])
    limits = ResourceSettings(nodes=profile.jobs, resources=profile.resources, overwrite_resource_scopes=profile.set_resource_scopes)
    with planned(configs, targets=targets, resources=limits, groups=GroupSettings(group_components=profile.group_components)) as workflow:
        here = workflow._localrules | {"all"}
        jobs = [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name not in here]
        order = [rule.name for rule in workflow.rules]
        return sorted(submitted(workflow.dag, jobs), key=lambda job: order.index(_rule(job)))


def _command(job: Any, partitions: Sequence[Partition]) -> str:
    """Build the plugin's own command, without what is the same for all jobs."""
    name = job.resources.get("slurm_partition") or (get_best_partition(partitions, job, snakemake.logging.logger) if partitions else None)
    account = job.resources.get("slurm_account")
    about = {
        "run_uuid": "RUN",
        "slurm_logfile": f".snakemake/slurm_logs/{'group' if job.is_group() else 'rule'}_{job.name}/%j.log",
        "comment_str": f"rule_{job.name}",
        "account": f"-A {account}" if account else "",
        "partition": f"-p {name}" if name else "",
        "workdir": "",
    }
    return get_submit_command(job, about, settings=ExecutorSettings(requeue=True)) + set_gres_string(job)
