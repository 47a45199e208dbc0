"""Site settings queried from Slurm, for `boldscribe init --cluster`."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isinf
from typing import Any

import yaml

from boldscribe.machinery.cluster.requests import minutes_of
from boldscribe.machinery.cluster.site import Site
from boldscribe.machinery.errors import UserError

# Partition name and time limit; number, cores, memory (MB) and generic resources of each kind of node; `up` or not.
SINFO = ("sinfo", "--noheader", "--all", "--format=%R|%l|%D|%c|%m|%G|%a")
ACCOUNTS = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", "format=Account")
GPU = re.compile(r"gpu:(?:(?P<model>[A-Za-z_][\w.]*):)?(?P<number>\d+)")


@dataclass
class Found:
    """Partitions of a cluster with their limits, the user's accounts, and remarks for the user."""

    partitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """All GPU models."""
        return sorted({model for limits in self.partitions.values() for model in limits.get("available_gpu_models", [])})


def ask() -> Found:
    """Query Slurm for partitions and accounts.

    Raises:
        UserError: Slurm is missing or does not answer, or no partition is open to the user.
    """
    found = Found(partitions_of(_slurm(*SINFO).splitlines()))
    try:
        lines = _slurm(*ACCOUNTS, f"user={getpass.getuser()}").splitlines()
        found.accounts = sorted({line.strip() for line in lines if line.strip()})
    except UserError as error:
        found.remarks.append(f"accounts are unknown: {error}")
    for name, allowed in closed_partitions(_slurm("scontrol", "show", "partition", "--oneliner").splitlines(), found.accounts):
        if found.partitions.pop(name, None):
            found.remarks.append(f"partition {name} is excluded: it is open only to the accounts {allowed}")
    if not found.partitions:
        raise UserError("sinfo", "found no partition that is up and open to you; ask the cluster's administrators")
    return found


def partitions_of(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the partitions that are up, with the limits of their largest nodes, under the keys of Snakemake's Slurm plugin.

    Args:
        lines: output of SINFO.
    """
    partitions: dict[str, dict[str, Any]] = {}
    for line in lines:
        name, time, nodes, cores, memory, generic, state = line.strip().split("|")
        if state != "up":
            continue
        limits = partitions.setdefault(name, {})
        if not isinf(minutes := minutes_of(time)):
            limits["max_runtime"] = int(minutes)
        limits["max_mem_mb"] = max(limits.get("max_mem_mb", 0), int(memory.rstrip("+")))
        limits["max_threads"] = max(limits.get("max_threads", 0), int(cores.rstrip("+")))
        for match in GPU.finditer(generic):
            limits["max_gpu"] = limits.get("max_gpu", 0) + int(nodes) * int(match["number"])
            if match["model"]:
                limits["available_gpu_models"] = sorted({*limits.get("available_gpu_models", []), match["model"]})
    return partitions


def closed_partitions(lines: Iterable[str], accounts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each partition that none of the accounts may use, with the accounts that may.

    Args:
        lines: output of `scontrol show partition --oneliner`.
    """
    for line in lines:
        values = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        allowed = values.get("AllowAccounts", "ALL")
        if allowed != "ALL" and accounts and not set(allowed.split(",")) & set(accounts):
            yield values["PartitionName"], allowed


def proposal(found: Found, **chosen: Any) -> Site:
    """Build the site's settings from what Slurm reports.

    Args:
        chosen: settings given by the user; a missing account is filled in if the user has only one.

    Raises:
        UserError: the cluster does not have the chosen account, partition or GPU model.
    """
    values = {name: value for name, value in chosen.items() if value is not None}
    for name, there in (("account", found.accounts), ("gpu_model", found.models)):
        if name in values and there and values[name] not in there:
            raise UserError(f"--{name.replace('_', '-')}", f"found {values[name]!r}, expected one of {', '.join(there)}")
    if "account" not in values and len(found.accounts) == 1:
        values["account"] = found.accounts[0]
    names = values.pop("partitions", None) or list(found.partitions)
    if absent := [name for name in names if name not in found.partitions]:
        raise UserError("--partition", f"found {', '.join(absent)}, expected some of {', '.join(found.partitions)}")
    return Site(partitions={name: found.partitions[name] for name in names}, **values)


def site_text(site: Site) -> str:
    """Format the settings as YAML, each with its meaning."""
    lines = ["# Where this checkout's jobs run; written by `boldscribe init --cluster`, meant to be edited. No result depends on it."]
    for name, about in type(site).model_fields.items():
        value = getattr(site, name)
        lines.append(f"# {about.description}")
        lines.append(yaml.safe_dump({name: value}, sort_keys=False, width=120).strip())
    return "\n".join(lines) + "\n"


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise UserError(
            command[0], "not found: Slurm cannot be queried from this machine; run the command on the cluster's login node"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(command[0], "no answer within a minute; is Slurm's controller up? (`scontrol ping`)") from None
    if done.returncode != 0:
        raise UserError(" ".join(command[:2]), done.stderr.strip() or f"exited with code {done.returncode}")
    return done.stdout
