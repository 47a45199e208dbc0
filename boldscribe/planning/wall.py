"""Minimum duration of a run, from its first job to its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from boldscribe.config import Config
from boldscribe.machinery.cluster.site import PROFILE
from boldscribe.machinery.processes import cores
from boldscribe.machinery.registry import Need
from boldscribe.machinery.runs.jobs import Job
from boldscribe.machinery.runs.schedule import Room, duration, longest_chain, makespan, needs_of
from boldscribe.machinery.runs.slurm_partitions import Partition
from boldscribe.planning.stages import Plan, estimates


@dataclass(frozen=True)
class Wall:
    """Time from the first job to the last (s), the room that was assumed, and the longest chain of jobs, as text."""

    seconds: float
    room: str
    chain: str
    chain_seconds: float
    on_slurm: bool

    def sentence(self) -> str:
        """Format the estimate for printing."""
        aside = (
            "not counting downloads, time in the queue behind others' jobs, and the minute or so that Slurm and Snakemake take per job"
            if self.on_slurm
            else "not counting downloads"
        )
        return (
            f"At least {duration(self.seconds)} from the first job to the last, with {self.room}, {aside}. "
            f"The longest chain takes {duration(self.chain_seconds)}: {self.chain}."
        )


def wall(config: Config, plan: Plan, results: Path, partitions: Sequence[Partition] | None, at_once: int | None) -> Wall:
    """Estimate the minimum duration of a run in which every job starts as soon as it can; jobs that are done are included.

    Args:
        config: the experiment.
        plan: its plan, which holds the jobs.
        results: its results tree, whose ledger states what jobs take.
        partitions: Slurm's partitions that jobs may go to; None without Slurm.
        at_once: number of simultaneous jobs, as given to Snakemake; by default the profile's, or what the cores allow.
    """
    todo, most = plan.jobs, at_once if partitions is None else at_once or _profile_jobs()
    needs = needs_of(todo, estimates(config, todo, results, cores(), most))
    if partitions is None or most is None:
        room = Room(jobs=at_once or cores(), cores=cores())
        told = f"{cores()} cores" + (f" and {at_once} jobs at a time" if at_once else "")
    else:
        nodes = {n.name: n for p in partitions for n in p.nodes}.values()
        room = Room(most, sum(n.cpus for n in nodes), sum(n.gpus for n in nodes))
        told = f"{most} jobs at a time on all {room.cores:.0f} CPUs and {room.gpus:.0f} GPUs of {', '.join(p.name for p in partitions)}"
    chain = longest_chain(todo, needs)
    return Wall(makespan(todo, needs, room), told, _told(chain, needs), sum(needs[job].seconds for job in chain), partitions is not None)


def _told(chain: Sequence[Job], needs: dict[Job, Need]) -> str:
    """Format `fmriprep 4.0 h, stage1 23 min, ...`: the longest jobs of the chain, in their order."""
    long = sorted(chain, key=lambda job: -needs[job].seconds)[:5]
    return ", ".join(f"{job.rule} {duration(needs[job].seconds)}" for job in chain if job in long)


def _profile_jobs() -> int:
    """Return the number of simultaneous jobs in the cluster's profile."""
    try:
        return int(yaml.safe_load((PROFILE / "profile.yaml").read_text())["jobs"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return 100
