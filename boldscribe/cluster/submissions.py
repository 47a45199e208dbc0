"""What `sbatch` would be told for an experiment's jobs: `boldscribe plan --sbatch`. Nothing is submitted.

The one module of the package that asks Snakemake: the lines are those of its Slurm plugin for the jobs of its plan.
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
from snakemake.api import ConfigSettings, DAGSettings, GroupSettings, OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.cli import parse_args
from snakemake.settings.enums import Quietness
from snakemake_executor_plugin_slurm import ExecutorSettings
from snakemake_executor_plugin_slurm.partitions import Partition, get_best_partition, read_partition_file
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from boldscribe.cluster.site import PROFILE, ROOT, SITE
from boldscribe.errors import UserError


@dataclass(frozen=True)
class Submission:
    """A rule's jobs in the queue: how many, and the command for the one that asks for the most memory."""

    rule: str
    jobs: int
    command: str


def submissions(configs: Sequence[Path] = (), targets: Iterable[str] = ()) -> list[Submission]:
    """One line per rule whose jobs would be submitted, in the order of the plan.

    Args:
        configs: configuration files over config.yaml, as for `snakemake --configfile`.
        targets: files or rules; all by default.

    Raises:
        UserError: the plan cannot be made; Snakemake's message stands above.
    """
    jobs = _planned(configs, targets)
    partitions = read_partition_file(SITE) if SITE.exists() else []
    by_rule: dict[str, list[Any]] = {}
    for job in jobs:
        by_rule.setdefault(_rule(job), []).append(job)
    largest = {rule: max(some, key=lambda job: job.resources.get("mem_mb") or 0) for rule, some in by_rule.items()}
    return [Submission(rule, len(by_rule[rule]), _command(job, partitions)) for rule, job in largest.items()]


def submitted(dag: Any, jobs: Iterable[Any]) -> list[Any]:
    """What Slurm gets of a plan's jobs: each by itself, or the group that it is in."""
    return list(dict.fromkeys(dag.get_job_group(job) or job for job in jobs))


def _rule(job: Any) -> str:
    """Name of a job's rule, or of the first one in a group."""
    return str(min(job.jobs, key=lambda j: j.jobid).rule.name if job.is_group() else job.rule.name)


def unfit(jobs: Iterable[Any], partitions: Sequence[Partition]) -> list[str]:
    """Rules with a job that no partition can hold, with what it asks for: Slurm would let it wait for ever."""
    found: dict[str, str] = {}
    for job in jobs:
        if not job.is_local and (rule := _rule(job)) not in found and all(p.score_job_fit(job) is None for p in partitions):
            asked = {name: job.resources.get(name) for name in ("mem_mb", "runtime", "gpu", "gpu_model", "gres")}
            named = ", ".join(f"{name} {value}" for name, value in {"threads": job.threads, **asked}.items() if value)
            group = f"; {len(job.jobs)} share it: fewer by --group-components" if job.is_group() and len(job.jobs) > 1 else ""
            found[rule] = f"{rule}: no partition holds a job of {named}{group}"
    return list(found.values())


def check_partitions(workflow: Any) -> None:
    """Refuse a run on Slurm before its first job is submitted, if a job of the plan fits no partition of the site's settings.

    Args:
        workflow: Snakemake's, at its start.

    Raises:
        UserError: names the rules, and what to change.
    """
    if not SITE.exists():
        return
    partitions = read_partition_file(SITE)
    if partitions and (problems := unfit(submitted(workflow.dag, workflow.dag.needrun_jobs()), partitions)):
        raise UserError(
            str(SITE), *problems, "name a partition that does, or ask for less by `--set-resources RULE:mem_mb=…`, `--set-threads`"
        )


def hear_of_cancelled_jobs() -> None:
    """Let Snakemake hear of jobs that were cancelled.

    Slurm's accounting says `CANCELLED by UID` of them; version 2.8.0 of the plugin knows `CANCELLED` alone, and would take such a job
    for one that runs on, for ever. With a version that knows both this changes nothing.
    """
    ask = plugin.query_job_status

    async def ask_for_words(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await ask(command, logger)
        return None if states is None else {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    plugin.query_job_status = ask_for_words


def _planned(configs: Sequence[Path], targets: Iterable[str]) -> list[Any]:
    with redirect_stderr(StringIO()):  # where it names the profiles
        _, profile = parse_args(["--profile", str(PROFILE)])
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        made = api.workflow(
            resource_settings=ResourceSettings(
                nodes=profile.jobs, resources=profile.resources, overwrite_resource_scopes=profile.set_resource_scopes
            ),
            config_settings=ConfigSettings(configfiles=[path.resolve() for path in configs]),
            snakefile=ROOT / "Snakefile",
            workdir=ROOT,
        )
        try:
            made.dag(DAGSettings(targets=set(targets))).execute_workflow(
                executor="dryrun", group_settings=GroupSettings(group_components=profile.group_components)
            )
        except Exception as error:
            api.print_exception(error)
            raise UserError("Snakefile", "no plan can be made; see the message above") from None
        here = made._workflow._localrules | {"all"}
        jobs = [job for job in made._workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name not in here]
        order = [rule.name for rule in made._workflow.rules]
        return sorted(submitted(made._workflow.dag, jobs), key=lambda job: order.index(_rule(job)))


def _command(job: Any, partitions: Sequence[Partition]) -> str:
    """The plugin's own command, without what is the same for all jobs."""
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
