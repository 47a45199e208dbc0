"""What the rules ask of the machine: memory, time and GPUs, by scale, size of the input and attempt, within what the site offers.

Snakemake calls what `memory` and `minutes` return with a job's wildcards, input and attempt; the Slurm plugin turns them into a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any

from boldscribe.cluster.site import Site

Resource = Callable[..., int]


class Requests:
    """What jobs ask for on a site.

    Args:
        site: the site's settings.
        embedded: whether the embedded default's small models are configured, which need no GPU and little memory.
    """

    def __init__(self, site: Site, embedded: bool) -> None:
        self.site, self.embedded = site, embedded

    def memory(self, full: int, embedded: int, of_input: float = 0) -> Resource:
        """Memory of a job (MB), more with each attempt, since the attempt before may have ended for want of it.

        Args:
            full, embedded: at each scale, whatever the input.
            of_input: MB for each MB of the input on top, as far as its files are there.
        """
        base = embedded if self.embedded else full
        return lambda wildcards, input, attempt: self._grown(base + _of_input(of_input, input), attempt, "max_mem_mb")

    def minutes(self, full: int, embedded: int, of_input: float = 0) -> Resource:
        """Longest run time of a job (min), more with each attempt.

        Args:
            full, embedded: at each scale, whatever the input.
            of_input: minutes for each GB of the input on top.
        """
        base = embedded if self.embedded else full
        return lambda wildcards, input, attempt: self._grown(base + _of_input(of_input / 1000, input), attempt, "max_runtime")

    def gpus(self, n: int = 1, nodes: int = 1, needed: bool = False) -> int:
        """GPUs of a job; none where they are asked for as a generic resource (`gres`).

        Args:
            n: how many, at full scale.
            nodes: that share them equally.
            needed: at the embedded default's scale too, which can do without otherwise.
        """
        return 0 if self.site.gres or nodes > 1 else self._wanted(n, needed)

    def gpu_model(self, n: int = 1, nodes: int = 1, needed: bool = False) -> str:
        """Their model; empty for any."""
        return self.site.gpu_model or "" if self.gpus(n, nodes, needed) else ""

    def gres(self, n: int = 1, nodes: int = 1, needed: bool = False) -> str:
        """Generic resource of each node that stands for its GPUs; empty where GPUs are asked for by number.

        It stands for slices of a GPU, and for the GPUs of jobs on several nodes: their number alone would be spread in any way.
        """
        wanted = self._wanted(n, needed) // nodes
        kind = self.site.gres or (":".join(["gpu", *filter(None, [self.site.gpu_model])]) if nodes > 1 else None)
        return f"{kind}:{wanted}" if kind and wanted else ""

    def tasks(self, n: int = 1, nodes: int = 1) -> int:
        """Slurm's tasks of a job: one per node. For jobs with GPUs the plugin would read them as tasks per GPU: none are asked for."""
        return nodes if nodes > 1 and not self._wanted(n, needed=False) else 0

    def leave(self) -> str:
        """Option of sbatch by which a training hears, in time, that its time ends (SIGURG, which all others ignore)."""
        return f"--signal=URG@{self.site.leave_before}" if self.site.leave_before else ""

    def everywhere(self, rules: Iterable[Any]) -> None:
        """Let Snakemake's rules ask for what all jobs of the site ask for alike: account, quality of service, features of nodes."""
        named = {"slurm_account": self.site.account, "qos": self.site.qos, "constraint": self.site.constraint}
        for rule in rules:
            rule.resources.update({name: value for name, value in named.items() if value})

    def _wanted(self, n: int, needed: bool) -> int:
        return n * max(1 if needed else 0, self.site.embedded_gpus if self.embedded else 1)

    def _grown(self, first: float, attempt: int, limit: str) -> int:
        """What an attempt asks for: more than the one before, but no more than a partition has, since that would be refused."""
        limits = [minutes_of(p[limit]) if limit == "max_runtime" else p[limit] for p in self.site.partitions.values() if limit in p]
        most = max(limits) if limits and len(limits) == len(self.site.partitions) else inf
        return int(min(first * attempt, max(first, most)))


def _of_input(factor: float, paths: Iterable[Any]) -> float:
    """What the input's size adds. Most rules ask for nothing more, and a dry run asks for each job: then no file is looked at."""
    return factor * megabytes(paths) if factor else 0


def megabytes(paths: Iterable[Any]) -> float:
    """Size of those files, and of the files in those folders, that are there; what is not made yet counts nothing."""
    files = (file for path in map(Path, paths) for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def minutes_of(limit: str | int) -> float:
    """A time limit in minutes, from Slurm's forms: minutes, [days-]hours:minutes[:seconds], minutes:seconds, or UNLIMITED."""
    text = str(limit)
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return inf
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return (int(days) * 24 + hours) * 60 + minutes + seconds / 60
    if len(parts) == 3:
        return parts[0] * 60 + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0)
