"""Jobs of an experiment as Snakemake has them, written to `jobs.json` of the results when a run starts.

If no run has started, Snakemake is asked for them (`planned_jobs`), which takes seconds.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boldscribe.machinery.configuration import Experiment, merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, json_digest, write_json

NAME = "jobs.json"


@dataclass(frozen=True)
class Job:
    """A job of an experiment: its rule and wildcards, and what Snakemake knows about it.

    Attributes:
        rule: name of the rule.
        wildcards: names and values, in Snakemake's order.
        outputs: its output files, relative to the results.
        log: its log, relative to the results.
        whole: its data set, or the one that it is a fold of; empty if it has none.
        group: name shared by the jobs that run in sequence in one Slurm job; empty for a single job.
        local: whether it runs where Snakemake does.
        threads, memory, minutes: requested at the first attempt (MB, min).
        gpus, gpu_model: requested at the first attempt; a generic resource that stands for GPUs counts as GPUs.
        before: the jobs that it waits for.
    """

    rule: str
    wildcards: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...] = field(default=(), compare=False)
    log: str = field(default="", compare=False)
    whole: str = field(default="", compare=False)
    group: str = field(default="", compare=False)
    local: bool = field(default=False, compare=False)
    threads: int = field(default=1, compare=False)
    memory: float = field(default=0, compare=False)
    minutes: float = field(default=0, compare=False)
    gpus: int = field(default=0, compare=False)
    gpu_model: str = field(default="", compare=False)
    before: tuple[Job, ...] = field(default=(), compare=False, repr=False)

    def __getitem__(self, wildcard: str) -> str:
        """Return the value of a wildcard; empty if the job has none of that name."""
        return dict(self.wildcards).get(wildcard, "")

    def __str__(self) -> str:
        """Format as `decode had condition-model`."""
        return " ".join([self.rule, *self.names()])

    def names(self) -> list[str]:
        """Return its wildcards as they appear in file names: `had`, `had_descriptions`, `encoder-model`, `role-test`."""
        values = dict(self.wildcards)
        parts = [values[key] + self["references"] for key in ("dataset", "asset") if key in values]
        parts += [f"sub-{values['subject']}"] if "subject" in values else []
        parts += ["-".join(values[key] for key in ("split", "shard") if key in values)] if "shard" in values else []
        return parts + [f"{key}-{values[key]}" for key in ("encoder", "bridge", "data", "role", "condition") if key in values]

    def slurm_comment(self) -> str:
        """Return the comment by which Snakemake's Slurm plugin identifies it in the queue; jobs in one Slurm job share it."""
        if self.group:
            return f"rule_{self.group}_{self.rule}"
        return "_wildcards_".join(filter(None, [f"rule_{self.rule}", "_".join(value for _, value in self.wildcards)]))

    def slurm_folder(self) -> str:
        """Return the name of the folder where the plugin stores its logs."""
        comment = self.slurm_comment()
        return f"group_{comment.partition('_')[2]}" if self.group else comment.replace("_wildcards_", "/")


def read_jobs(results: Path) -> list[Job] | None:
    """Return all jobs of the experiment of a results tree in topological order; None if no run has written them.

    Jobs whose files already exist are included.

    Raises:
        UserError: the file is damaged.
    """
    try:
        entries = json.loads((results / NAME).read_text())["jobs"]
        jobs: list[Job] = []
        for entry in entries:
            values = {**entry, "wildcards": tuple(map(tuple, entry["wildcards"])), "outputs": tuple(entry["outputs"])}
            jobs.append(Job(**{**values, "before": tuple(jobs[i] for i in entry["before"])}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(str(results / NAME), f"not the jobs of a run: {error}; remove it, and start the run again") from None
    return jobs


def write_jobs(config: Experiment, workflow: Any) -> list[Job]:
    """Write the jobs of a run that starts, as well as those of earlier runs of the same experiment.

    Args:
        config: the experiment.
        workflow: Snakemake's workflow, with its plan made.

    Returns:
        The jobs that this run sets out to do, in their order.
    """
    jobs, path, rules = jobs_of(config, workflow), Path(config.paths.results) / NAME, {rule.name for rule in workflow.rules}
    try:
        earlier = (read_jobs(path.parent) or []) if json.loads(path.read_text())["config"] == _digest(config) else []
    except (OSError, ValueError, KeyError, TypeError, UserError):
        earlier = []
    earlier = earlier if all(job.rule in rules for job in earlier) else []  # of another version of the workflow
    save_jobs(config, in_order({job: job for job in [*earlier, *jobs.values()]}.values(), workflow))
    return in_order((jobs[job] for job in workflow.dag.needrun_jobs(exclude_finished=False) if job in jobs), workflow)


def save_jobs(config: Experiment, jobs: Sequence[Job]) -> None:
    """Write the jobs of an experiment, given in topological order."""
    places = {job: i for i, job in enumerate(jobs)}
    entries = [{**vars(job), "before": [places[other] for other in job.before]} for job in jobs]
    write_json(Path(config.paths.results) / NAME, {"config": _digest(config), "jobs": entries})


def _digest(config: Experiment) -> str:
    return json_digest(config.model_dump(mode="json", by_alias=True))


def planned_jobs(config: Experiment) -> list[Job]:
    """Return all jobs of an experiment in topological order by Snakemake's plan, which takes seconds.

    Raises:
        UserError: the plan cannot be made; Snakemake's message is printed above.
    """
    from boldscribe.machinery.cluster.dryrun import planned

    with planned(changes=_instead_of_the_papers(config)) as workflow:
        return in_order(jobs_of(config, workflow).values(), workflow)


def known_jobs(config: Experiment, results: Path) -> list[Job]:
    """Return all jobs of an experiment: those that its runs have written, or Snakemake's plan if none has."""
    jobs = read_jobs(results)
    return planned_jobs(config) if jobs is None else jobs


def _instead_of_the_papers(config: Experiment) -> dict[str, Any]:
    """Return the whole configuration as changes to config.yaml, with null for data sets that only config.yaml has."""
    raw, papers = config.model_dump(mode="json", by_alias=True), type(config).load(ROOT / "config.yaml")
    return merge({"datasets": dict.fromkeys(papers.whole_datasets)}, raw)


def jobs_of(config: Experiment, workflow: Any) -> dict[Any, Job]:
    """Map each job of Snakemake's plan to the `Job` that is kept of it."""
    made: dict[Any, Job] = {}
    for job in (job for level in workflow.dag.toposorted() for job in level if job.output):
        # evaluated on the rule: a job caches what it has evaluated, and its input may not exist yet
        asked = job.rule.expand_resources(job.wildcards_dict, job.input, 1, skip_evaluation={"tmpdir"})
        number = {key: value if isinstance(value := asked.get(key), int) else 0 for key in ("_cores", "mem_mb", "runtime", "gpu", "nodes")}
        kind, _, slices = str(asked.get("gres") or "").removeprefix("gpu:").rpartition(":")
        dataset = job.wildcards_dict.get("dataset", "")
        made[job] = Job(
            job.rule.name,
            tuple(job.wildcards_dict.items()),
            tuple(_below(config.paths.results, path) for path in job.output),
            _below(config.paths.results, job.log[0]),
            config.whole(dataset),
            job.group or "",
            job.rule.name in workflow._localrules,
            number["_cores"] or 1,
            number["mem_mb"],
            number["runtime"],
            number["gpu"] or int(slices or 0) * max(1, number["nodes"]),
            str(asked.get("gpu_model") or kind),
            before=tuple(sorted((made[other] for other in workflow.dag.job_dependencies(job)), key=str)),
        )
    return made


def in_order(jobs: Iterable[Job], workflow: Any) -> list[Job]:
    """Sort jobs topologically; jobs that are ready together follow the order of the rules and wildcards."""
    jobs, order = list(jobs), {rule.name: i for i, rule in enumerate(workflow.rules)}
    known = set(jobs)
    waiting = {job: sum(other in known for other in job.before) for job in jobs}
    behind: dict[Job, list[Job]] = {job: [] for job in jobs}
    for job in jobs:
        for other in job.before:
            behind.get(other, []).append(job)
    ready = sorted((order[job.rule], job.wildcards) for job in jobs if not waiting[job])
    by_name = {(order[job.rule], job.wildcards): job for job in jobs}
    found: list[Job] = []
    while ready:
        found.append(job := by_name[heapq.heappop(ready)])
        for other in behind[job]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, (order[other.rule], other.wildcards))
    return found


def _below(results: str, path: Any) -> str:
    """Return a file's path relative to the results."""
    return os.path.relpath(path, results)
