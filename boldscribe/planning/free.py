"""Free resources of this machine, compared with a plan."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from boldscribe.config import Config
from boldscribe.machinery.cluster.site import Site
from boldscribe.machinery.runs.slurm_partitions import Ask, Partition, against, asks, remedy, usable
from boldscribe.planning.stages import GB, Plan


@dataclass(frozen=True)
class Verdict:
    """Verdict on a resource: its name, the amounts needed and found, whether they suffice, and a remark."""

    what: str
    needed: str
    found: str
    fits: bool
    note: str = ""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """Return the number of GPUs that torch can use here."""
    import torch

    return torch.cuda.device_count()


def verdicts(config: Config, plan: Plan, results: Path, slurm: Sequence[Partition] | None, site: Site | None = None) -> list[Verdict]:
    """Check disk and inodes of each file system, then the largest jobs against this machine, or against Slurm if it exists.

    Args:
        config: the experiment.
        plan: its plan.
        results: its results tree.
        slurm: all partitions; None without Slurm.
        site: settings that state which of them jobs may go to.
    """
    found = _disks(places(config, plan, results))
    if slurm is not None:
        return found + on_slurm(asks(plan.jobs), usable(slurm, site or Site()), slurm)
    total = plan.total()
    memory = psutil.virtual_memory().total / GB
    machine: list[tuple[str, float, Callable[[], float], str]] = [
        ("cores of the largest job", total.threads, cores, "{:.0f}"),
        ("memory of the largest job", total.memory, lambda: memory, "{:.1f} GB"),
        ("GPUs of the largest job", total.gpus, gpus, "{:.0f}"),
    ]
    for what, needed, look, form in machine:
        here = look() if needed else 0
        enough, note = here >= needed, ""
        if not enough and what.startswith("cores"):
            enough, note = True, "Snakemake gives the job all available cores; it takes longer"
        found.append(Verdict(what, form.format(needed), form.format(here) if needed else "not checked", enough, note))
    return found


def on_slurm(asked: list[Ask], used: Sequence[Partition], all_: Sequence[Partition]) -> list[Verdict]:
    """Check whether each stage's largest job fits a partition that jobs may go to.

    All jobs that fit share one line. Jobs that do not fit are grouped by what is missing.

    Args:
        asked: requests of the jobs.
        used: partitions that jobs may go to.
        all_: all partitions, including others that site.yaml could name.
    """
    fitting: list[Ask] = []
    groups: dict[tuple[str, str], list[Ask]] = {}
    for ask in asked:
        if any(not against(ask, p) for p in used):
            fitting.append(ask)
        else:
            lacks = "; ".join(f"{p.name}: {', '.join(against(ask, p))}" for p in used) or "no partition"
            elsewhere = ", ".join(p.name for p in all_ if not against(ask, p))
            groups.setdefault((lacks, elsewhere), []).append(ask)
    found = []
    for (lacks, elsewhere), group in groups.items():
        largest = max(group, key=lambda a: (a.gpus, a.memory, a.minutes))
        more = f"; likewise for {', '.join(a.rule for a in group if a is not largest)}" if len(group) > 1 else ""
        note = f"{elsewhere} would fit: add it to site.yaml (`boldscribe init --cluster`)" if elsewhere else remedy(largest, used) + more
        needed = f"{largest}" + (f" at most ({largest.rule})" if len(group) > 1 else "")
        found.append(Verdict(f"jobs of {', '.join(a.rule for a in group)}", needed, lacks, False, note))
    if fitting:
        names = "all stages" if not found else f"{len(fitting)} other stages"
        largest = max(fitting, key=lambda a: (a.gpus, a.memory, a.minutes))
        found.append(Verdict(f"jobs of {names}", f"{largest} at most ({largest.rule})", ", ".join(p.name for p in used), True))
    return found


def places(config: Config, plan: Plan, results: Path) -> dict[Path, tuple[float, int]]:
    """Return the bytes and inodes that each folder must still take."""
    needs: dict[Path, list[float]] = {}

    def add(folder: str | Path, size: float, files: float) -> None:
        total = needs.setdefault(Path(folder), [0.0, 0.0])
        total[0] += size
        total[1] += files

    for line in plan.lines:
        if line.stage == "raw data":
            add(config.datasets[line.dataset].bids_dir, line.kept, line.inodes)
        elif line.stage == "weights":
            add(Path(config.video_llama.llm).parent if config.video_llama.llm != "embedded" else results, line.kept, line.inodes)
        elif line.stage == "frames (cache)":
            add(config.paths.cache or results, line.kept, line.inodes)
        else:
            add(results, line.kept, line.inodes)
    size, files = occupied(results)
    kept = needs.setdefault(results, [0.0, 0.0])
    kept[0], kept[1] = max(0.0, kept[0] - size), max(0.0, kept[1] - files)
    total = plan.total()
    add(results / "work", total.scratch, total.inodes_scratch)
    return {folder: (size, round(files)) for folder, (size, files) in needs.items()}


def occupied(folder: Path) -> tuple[float, int]:
    """Return the bytes and files that a folder already holds, without following links."""
    size = files = 0
    for path in folder.rglob("*"):
        try:
            size, files = size + path.lstat().st_size, files + 1
        except OSError:  # removed in the meantime
            continue
    return size, files


def _disks(needs: dict[Path, tuple[float, int]]) -> list[Verdict]:
    """Compare the sums of the folders of each file system with its free space."""
    systems: dict[int, list[Path]] = {}
    for folder in needs:
        systems.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    found = []
    for folders in systems.values():
        here = _existing(folders[0])
        size, files = (sum(needs[f][i] for f in folders) for i in (0, 1))
        free, inodes = shutil.disk_usage(here).free, os.statvfs(here)
        where = ", ".join(dict.fromkeys(map(str, folders)))
        found.append(Verdict(f"disk of {where}", f"{size / GB:,.1f} GB", f"{free / GB:,.1f} GB", size <= free))
        if inodes.f_files:
            found.append(Verdict("files there (inodes)", f"{files:,.0f}", f"{inodes.f_favail:,}", files <= inodes.f_favail))
        else:
            found.append(Verdict("files there (inodes)", f"{files:,.0f}", "no limit known", True))
    return found


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    folder = folder.absolute()
    return next(p for p in (folder, *folder.parents) if p.exists())
