"""How long a run takes at least, from its first job to its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from boldscribe.cluster.site import PROFILE
from boldscribe.config import Config
from boldscribe.operations.jobs import Job, jobs_of
from boldscribe.operations.schedule import Need, Room, duration, longest_chain, makespan, needs_of
from boldscribe.planning.queue import Partition
from boldscribe.planning.stages import stage_lines
from boldscribe.processes import cores


@dataclass(frozen=True)
class Wall:
    """Time from the first job to the last (s), the room that it was reckoned with, and the longest chain of jobs, as text."""

    seconds: float
    room: str
    chain: str
    chain_seconds: float
    on_slurm: bool

    def sentence(self) -> str:
        """What to print."""
        aside = (
            "downloads, time in the queue behind others' jobs, and the minute or so that Slurm and Snakemake take for each job, aside"
            if self.on_slurm
            else "downloads aside"
        )
        return (
            f"At least {duration(self.seconds)} from the first job to the last, with {self.room}; {aside}. "
            f"The longest chain takes {duration(self.chain_seconds)}: {self.chain}."
        )


def wall(config: Config, results: Path, partitions: Sequence[Partition] | None, jobs: int | None) -> Wall:
    """The least time that a run takes, if every job starts as soon as it can: what is done already is not left out.

    Args:
        config: the experiment.
        results: its tree, whose ledger says what jobs take.
        partitions: of Slurm, that jobs may go to; None without Slurm.
        jobs: at a time, as given to Snakemake; by default what the profile says, or what the cores allow.
    """
    todo = jobs_of(config)
    most = jobs if partitions is None else jobs or _profile_jobs()
    needs = needs_of(todo, stage_lines(config, results, cores(), most))
    if partitions is None or most is None:
        room, told = Room(jobs=jobs or cores(), cores=cores()), f"{cores()} cores" + (f" and {jobs} jobs at a time" if jobs else "")
    else:
        nodes = {n.name: n for p in partitions for n in p.nodes}.values()
        room = Room(most, sum(n.cpus for n in nodes), sum(n.gpus for n in nodes))
        told = f"{most} jobs at a time on all {room.cores:.0f} CPUs and {room.gpus:.0f} GPUs of {', '.join(p.name for p in partitions)}"
    chain = longest_chain(todo, needs)
    return Wall(makespan(todo, needs, room), told, _told(chain, needs), sum(needs[job].seconds for job in chain), partitions is not None)


def _told(chain: Sequence[Job], needs: dict[Job, Need]) -> str:
    """`fmriprep 4.0 h, stage1 23 min, ...`: those that take most, in their order."""
    long = sorted(chain, key=lambda job: -needs[job].seconds)[:5]
    return ", ".join(f"{job.rule} {duration(needs[job].seconds)}" for job in chain if job in long)


def _profile_jobs() -> int:
    """Jobs at a time of the cluster's profile."""
    try:
        return int(yaml.safe_load((PROFILE / "profile.yaml").read_text())["jobs"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return 100
