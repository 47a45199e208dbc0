"""Resource requests of the rules: memory, time and GPUs, by scale, input size and attempt, within the site's limits.

Snakemake calls what `memory` and `minutes` return with a job's wildcards, input and attempt; the Slurm plugin turns them into a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any

from boldscribe.machinery.cluster.site import Site

Resource = Callable[..., int]


class Requests:
    """Resource requests of jobs on a site.

    Args:
        site: the site's settings.
        embedded: whether the embedded default's small models are configured, which need no GPU and little memory.
    """

    def __init__(self, site: Site, embedded: bool) -> None:
        self.site, self.embedded = site, embedded

    def memory(self, full: int, embedded: int, of_input: float = 0) -> Resource:
        """Request memory (MB) that grows with each attempt, since the previous attempt may have run out of it.

        Args:
            full, embedded: base amount at each scale, whatever the input.
            of_input: MB to add per MB of the input; only existing files count.
        """
        base = embedded if self.embedded else full
        return lambda wildcards, input, attempt: self._grown(base + _of_input(of_input, input), attempt, "max_mem_mb")

    def minutes(self, full: int, embedded: int, of_input: float = 0) -> Resource:
        """Request a time limit (min) that grows with each attempt.

        Args:
            full, embedded: base amount at each scale, whatever the input.
            of_input: minutes to add per GB of the input.
        """
        base = embedded if self.embedded else full
        return lambda wildcards, input, attempt: self._grown(base + _of_input(of_input / 1000, input), attempt, "max_runtime")

    def on_gpus(self, n: int = 1, nodes: int = 1, needed: bool = False) -> dict[str, int | str]:
        """Request everything for a job on GPUs: their number and model, or a generic resource instead."""
        return {name: ask(n, nodes, needed) for name, ask in (("gpu", self.gpus), ("gpu_model", self.gpu_model), ("gres", self.gres))}

    def for_training(self, n: int, nodes: int) -> dict[str, int | str]:
        """Request what a training run with one process per GPU needs besides memory and time."""
        return {"nodes": nodes, "tasks": self.tasks(n, nodes), "slurm_extra": self.leave(), **self.on_gpus(n, nodes)}

    def gpus(self, n: int = 1, nodes: int = 1, needed: bool = False) -> int:
        """Return the number of GPUs of a job; 0 where they are requested as a generic resource (`gres`).

        Args:
            n: number of GPUs at full scale.
            nodes: number of nodes that share them equally.
            needed: request them at the embedded default's scale too, which otherwise runs without.
        """
        return 0 if self.site.gres or nodes > 1 else self._wanted(n, needed)

    def gpu_model(self, n: int = 1, nodes: int = 1, needed: bool = False) -> str:
        """Return the GPU model; empty for any."""
        return self.site.gpu_model or "" if self.gpus(n, nodes, needed) else ""

    def gres(self, n: int = 1, nodes: int = 1, needed: bool = False) -> str:
        """Return the generic resource for each node's GPUs; empty where GPUs are requested by number.

        It is used for slices of a GPU, and for jobs on several nodes, where a mere number of GPUs could be spread in any way.
        """
        wanted = self._wanted(n, needed) // nodes
        kind = self.site.gres or (":".join(["gpu", *filter(None, [self.site.gpu_model])]) if nodes > 1 else None)
        return f"{kind}:{wanted}" if kind and wanted else ""

    def tasks(self, n: int = 1, nodes: int = 1) -> int:
        """Return a job's Slurm tasks: one per node. With GPUs the plugin would read this as tasks per GPU, so none are requested."""
        return nodes if nodes > 1 and not self._wanted(n, needed=False) else 0

    def leave(self) -> str:
        """Return the sbatch option that warns a training run before its time limit (by SIGURG, which all others ignore)."""
        return f"--signal=URG@{self.site.signal_before}" if self.site.signal_before else ""

    def everywhere(self, rules: Iterable[Any]) -> None:
        """Add what all jobs of the site request to Snakemake's rules: account, quality of service, node features."""
        named = {"slurm_account": self.site.account, "qos": self.site.qos, "constraint": self.site.constraint}
        for rule in rules:
            rule.resources.update({name: value for name, value in named.items() if value})

    def _wanted(self, n: int, needed: bool) -> int:
        return n * max(1 if needed else 0, self.site.embedded_gpus if self.embedded else 1)

    def _grown(self, first: float, attempt: int, limit: str) -> int:
        """Return an attempt's request: more than the previous one, but at most what a partition has, since more would be refused."""
        limits = [minutes_of(p[limit]) if limit == "max_runtime" else p[limit] for p in self.site.partitions.values() if limit in p]
        most = max(limits) if limits and len(limits) == len(self.site.partitions) else inf
        return int(min(first * attempt, max(first, most)))


def _of_input(factor: float, paths: Iterable[Any]) -> float:
    """Return the amount added for the input. With factor 0, as for most rules, no file is accessed, since a dry run asks for each job."""
    return factor * megabytes(paths) if factor else 0


def megabytes(paths: Iterable[Any]) -> float:
    """Return the total size of existing files, including those in folders; files that are not made yet count as 0."""
    files = (file for path in map(Path, paths) for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def minutes_of(limit: str | int) -> float:
    """Convert a time limit to minutes from Slurm's forms: minutes, [days-]hours:minutes[:seconds], minutes:seconds, or UNLIMITED."""
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
