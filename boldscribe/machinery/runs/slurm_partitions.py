"""Limits and free resources of a Slurm cluster, compared with what the rules' jobs request."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from boldscribe.machinery.cluster.requests import minutes_of
from boldscribe.machinery.cluster.site import Site
from boldscribe.machinery.runs.jobs import Job
from boldscribe.machinery.runs.schedule import duration

GPU = re.compile(r"gpu(?::(?P<model>[A-Za-z0-9_.-]*[A-Za-z_][\w.-]*))?:(?P<number>\d+)")
# a node takes no jobs if its state contains one of these words
OUT = ("DOWN", "DRAIN", "FAIL", "MAINT", "POWERED_DOWN", "NOT_RESPONDING", "REBOOT", "UNKNOWN", "FUTURE", "RESERVED")
WAIT = 30  # seconds for Slurm's answer


@dataclass(frozen=True)
class Node:
    """A node: its total and free resources (memory in MB). A node that takes no jobs has nothing free."""

    name: str
    up: bool
    cpus: int
    cpus_free: int
    memory: float
    memory_free: float
    gpus: int
    gpus_free: int
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Partition:
    """A partition: its limits, its nodes, and the number of all users' jobs that wait for it."""

    name: str
    default: bool
    up: bool
    minutes: float
    cpus: float
    memory: float
    nodes: tuple[Node, ...]
    waiting: int = 0


@dataclass(frozen=True)
class Ask:
    """Request of a rule's largest job at its first attempt: cores, memory (MB), time (min), GPUs."""

    rule: str
    cpus: int
    memory: float
    minutes: float
    gpus: int
    model: str = ""

    def __str__(self) -> str:
        """Format as `8 CPUs, 64 GB, 24 h, 1 GPU`."""
        gpus = f", {self.gpus} {self.model + ' ' if self.model else ''}GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        return f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}, {self.memory / 1000:.1f} GB, {duration(60 * self.minutes)}{gpus}"


def look() -> list[Partition] | None:
    """Query all partitions; None without Slurm, or if it does not answer."""
    partitions = _slurm("scontrol", "--oneliner", "show", "partition")
    nodes = _slurm("scontrol", "--oneliner", "--details", "show", "node")
    waiting = _slurm("squeue", "--noheader", "--array", "--states=PENDING", "--format=%P")
    if partitions is None or nodes is None:
        return None
    return parse(partitions, nodes, waiting or "")


def parse(partitions: str, nodes: str, waiting: str) -> list[Partition]:
    """Parse partitions from the output of `scontrol` and `squeue`, one per line."""
    of_partition: dict[str, list[Node]] = {}
    for line in nodes.splitlines():
        fields = _fields(line)
        if "NodeName" in fields:
            for name in fields.get("Partitions", "").split(","):
                of_partition.setdefault(name, []).append(_node(fields))
    jobs = Counter(name for line in waiting.split() for name in line.split(","))
    made = []
    for line in partitions.splitlines():
        fields = _fields(line)
        if "PartitionName" in fields:
            name = fields["PartitionName"]
            made.append(
                Partition(
                    name,
                    fields.get("Default") == "YES",
                    fields.get("State") == "UP",
                    minutes_of(fields.get("MaxTime", "UNLIMITED")),
                    _limit(fields.get("MaxCPUsPerNode")),
                    _limit(fields.get("MaxMemPerNode")),
                    tuple(of_partition.get(name, ())),
                    jobs[name],
                )
            )
    return made


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", line))


def _node(fields: Mapping[str, str]) -> Node:
    up = not any(word in fields.get("State", "UNKNOWN") for word in OUT)
    cpus, memory = int(fields.get("CPUTot", 0)), float(fields.get("RealMemory", 0))
    gpus, used = (sum(int(g["number"]) for g in GPU.finditer(fields.get(key, ""))) for key in ("Gres", "GresUsed"))
    models = frozenset(g["model"] for g in GPU.finditer(fields.get("Gres", "")) if g["model"])
    free = (cpus - int(fields.get("CPUAlloc", 0)), memory - float(fields.get("AllocMem", 0)), gpus - used) if up else (0, 0.0, 0)
    return Node(fields["NodeName"], up, cpus, free[0], memory, free[1], gpus, free[2], models)


def _limit(text: str | None) -> float:
    return float(text) if text and text.isdigit() and text != "0" else inf


def asks(jobs: Sequence[Job]) -> list[Ask]:
    """Return the request of each rule's largest job; jobs that share a Slurm job run in sequence and need the time of all."""
    sharing = Counter(job.group for job in jobs)
    found: dict[str, Ask] = {}
    for job in (job for job in jobs if not job.local):
        minutes = job.minutes * (sharing[job.group] if job.group else 1)
        ask = Ask(job.rule, job.threads, job.memory, minutes, job.gpus, job.gpu_model)
        found[job.rule] = max(ask, found.get(job.rule, ask), key=lambda a: (a.gpus, a.memory, a.minutes))
    return list(found.values())


def against(ask: Ask, partition: Partition) -> list[str]:
    """List why a job does not fit a partition; empty if it fits, now or once nodes are free."""
    if not partition.up:
        return ["accepts no jobs now"]
    faults = []
    if ask.minutes > partition.minutes:
        faults.append(f"allows {duration(60 * partition.minutes)}")
    nodes = [n for n in partition.nodes if n.up] or list(partition.nodes)
    whole = [
        n
        for n in nodes
        if min(n.cpus, partition.cpus) >= ask.cpus
        and min(n.memory, partition.memory) >= ask.memory
        and n.gpus >= ask.gpus
        and (not ask.model or ask.model in n.models)
    ]
    if not whole:
        cpus = min(max((n.cpus for n in nodes), default=0), partition.cpus)
        memory = min(max((n.memory for n in nodes), default=0.0), partition.memory)
        gpus = max((n.gpus for n in nodes if not ask.model or ask.model in n.models), default=0)
        lacks = [f"{cpus:.0f} CPUs"] if cpus < ask.cpus else []
        lacks += [f"{memory / 1000:.1f} GB"] if memory < ask.memory else []
        lacks += [f"{gpus} {ask.model + ' ' if ask.model else ''}GPUs"] if gpus < ask.gpus else []
        faults.append(f"nodes have {', '.join(lacks)}" if lacks else "no single node has all of it")
    return faults


def remedy(ask: Ask, partitions: Sequence[Partition]) -> str:
    """Suggest changes with which a job that fits no partition would fit the nearest one."""
    nearest = min(partitions, key=lambda p: len(" ".join(against(ask, p))), default=None)
    if nearest is None:
        return "no partition is open: run `boldscribe init --cluster` again, or ask the cluster's staff"
    changes = []
    if ask.minutes > nearest.minutes:
        changes.append(f"--set-resources {ask.rule}:runtime={nearest.minutes:.0f}")
    nodes = [n for n in nearest.nodes if n.up] or list(nearest.nodes)
    cpus = int(min(max((n.cpus for n in nodes), default=0), nearest.cpus))
    memory = min(max((n.memory for n in nodes), default=0.0), nearest.memory)
    if cpus < ask.cpus:
        changes.append(f"--set-threads {ask.rule}={cpus}")
    if memory < ask.memory:
        changes.append(f"--set-resources {ask.rule}:mem_mb={memory:.0f}, if that suffices")
    if max((n.gpus for n in nodes if not ask.model or ask.model in n.models), default=0) < ask.gpus:
        some = any(n.gpus for n in nodes)
        changes.append("fewer `training.processes`, or these nodes' `gpu_model` in site.yaml" if some else "name a partition with GPUs")
    return f"for {nearest.name}: {'; '.join(changes) or 'ask the cluster staff'}"


def usable(partitions: Sequence[Partition], site: Site) -> list[Partition]:
    """Return the partitions that jobs may go to: those of site.yaml, else the default, where Slurm puts jobs that name none."""
    if site.partitions:
        return [p for p in partitions if p.name in site.partitions]
    return [p for p in partitions if p.default] or list(partitions)


def row(partition: Partition) -> list[str]:
    """Format cells of a table: name, time limit, and nodes, CPUs and GPUs as free of total."""
    up = [n for n in partition.nodes if n.up]
    idle = sum(n.cpus_free == n.cpus for n in up)
    gpus = sum(n.gpus for n in partition.nodes)
    models = ", ".join(sorted({m for n in partition.nodes for m in n.models}))
    cpus, memory = max((n.cpus for n in partition.nodes), default=0), max((n.memory for n in partition.nodes), default=0)
    most = max((n.gpus for n in partition.nodes), default=0)
    return [
        partition.name + ("*" if partition.default else "") + ("" if partition.up else " (closed)"),
        "none" if partition.minutes == inf else duration(60 * partition.minutes),
        f"{idle} of {len(partition.nodes)}",
        f"{sum(n.cpus_free for n in up)} of {sum(n.cpus for n in partition.nodes)}",
        f"{sum(n.gpus_free for n in up)} of {gpus}{f' ({models})' if models else ''}" if gpus else "",
        f"{cpus} CPUs, {memory / 1000:.0f} GB{f', {most} GPUs' if most else ''}",
        f"{partition.waiting:,}",
    ]


def as_json(partition: Partition) -> dict[str, object]:
    """Return a partition as JSON, for programs; no limit is null."""
    up = [n for n in partition.nodes if n.up]
    return {
        "name": partition.name,
        "default": partition.default,
        "up": partition.up,
        "minutes": None if partition.minutes == inf else partition.minutes,
        "nodes": len(partition.nodes),
        "nodes_idle": sum(n.cpus_free == n.cpus for n in up),
        "gpus": sum(n.gpus for n in partition.nodes),
        "gpus_free": sum(n.gpus_free for n in up),
        "waiting": partition.waiting,
    }


def _slurm(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
