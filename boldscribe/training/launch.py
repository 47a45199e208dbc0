"""Launcher for the processes of a training run: `python -m boldscribe.training.launch --processes P --nodes N -- MODULE ARGS...`.

A single process runs the module itself. On one node, torchrun starts several processes. On several nodes, inside a Slurm job, `srun`
starts this launcher once per node, where torchrun starts the node's share of the processes. Signals that ask for an early exit are
forwarded to the processes, which run in separate sessions. The launcher ends with the exit code of the process that ended it
(docs/preemption.md).
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.forkserver import hand_over, withdraw

# Variables of the allocation. Slurm's others describe the step that the launcher itself runs in, and must not affect the next one.
KEPT = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_CONF", "SLURM_RESTART_COUNT")


def arguments_of(line: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m boldscribe.training.launch", description="Start the processes of a training run.")
    parser.add_argument("--processes", type=int, default=1, help="number of processes, one per GPU")
    parser.add_argument("--nodes", type=int, default=1, help="number of nodes that share them equally")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="address where nodes meet; set by the launcher that started this one")
    parser.add_argument("--first", action="store_true", help="nodes meet at this one")
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(line)
    if given.processes % given.nodes:
        parser.error(f"{given.processes} processes cannot be divided equally among {given.nodes} nodes")
    return given


@user_errors
def main() -> None:
    """Start the processes and wait for them to end."""
    given = arguments_of()
    if given.processes == 1:
        hand_over(given.module, given.arguments)
        sys.argv = [given.module, *given.arguments]
        runpy.run_module(given.module, run_name="__main__", alter_sys=True)
        return
    withdraw()
    if given.nodes == 1 or given.rendezvous:
        run_processes(given)
    else:
        run_nodes(given)


def run_processes(given: argparse.Namespace) -> None:
    """Run this node's processes under torchrun; exit with the exit code of the first one that failed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    meeting = ["--standalone"]
    if given.rendezvous:
        here = "1" if given.first or os.environ.get("SLURM_PROCID") == "0" else "0"
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", given.rendezvous, "--rdzv-conf", f"is_host={here},join_timeout=600"]
    options = ["--nnodes", str(given.nodes), "--nproc-per-node", str(given.processes // given.nodes), *meeting]
    # torchrun would kill its processes on SIGTERM, but they exit once they have saved.
    options += ["--signals-to-handle", "SIGINT,SIGHUP,SIGQUIT"]
    for number in (signal.SIGTERM, signal.SIGURG):
        signal.signal(number, _hand_on)
    try:
        run(get_args_parser().parse_args([*options, "--module", given.module, *given.arguments]))
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        print(f"process {rank + 1} of {given.processes} ended with exit code {first.exitcode}", file=sys.stderr)
        sys.exit(first.exitcode if first.exitcode > 0 else 128 - first.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def run_nodes(given: argparse.Namespace) -> NoReturn:
    """Run this launcher on each node of the Slurm job.

    Raises:
        UserError: this is not a Slurm job, or the job has fewer nodes.
    """
    nodes = nodes_of_this_job(given.nodes)
    # Slurm itself signals the processes on the nodes, and they determine the exit code.
    for number in (signal.SIGTERM, signal.SIGURG):
        signal.signal(number, signal.SIG_IGN)
    from boldscribe.machinery.processes import cores

    threads = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or str(cores())
    environment = {name: v for name, v in os.environ.items() if name in KEPT or not name.startswith(("SLURM_", "SRUN_", "CUDA_VISIBLE"))}
    command = ["srun", "--overlap", f"--nodes={given.nodes}", f"--ntasks={given.nodes}", "--ntasks-per-node=1"]
    command += [f"--cpus-per-task={threads}", "--cpu-bind=none", "--mem=0", "--kill-on-bad-exit=1", "--unbuffered"]
    command += [sys.executable, "-m", "boldscribe.training.launch", "--processes", str(given.processes), "--nodes", str(given.nodes)]
    command += ["--rendezvous", f"{address_of(nodes[0])}:{free_port()}", "--", given.module, *given.arguments]
    sys.exit(subprocess.run(command, env=environment).returncode)


def nodes_of_this_job(wanted: int) -> list[str]:
    """Ask Slurm for the nodes of this job, because Snakemake's job step drops most variables that would state them.

    Raises:
        UserError: this is not a Slurm job, or the job has fewer nodes than wanted.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise UserError(
            "training.nodes", f"found {wanted}, expected 1: this is not a Slurm job; set it to 1, or run with `snakemake --profile slurm`"
        )
    names = _asked("squeue", "--noheader", "--jobs", job, "--format", "%N")
    nodes = _asked("scontrol", "show", "hostnames", names).split()
    if len(nodes) < wanted:
        raise UserError(
            "training.nodes", f"found {wanted}, but Slurm job {job} has {len(nodes)} ({', '.join(nodes)}); request more with `--nodes`"
        )
    return nodes[:wanted]


def address_of(node: str) -> str:
    """Address at which other nodes reach a node, according to Slurm."""
    facts = dict(word.split("=", 1) for word in _asked("scontrol", "show", "node", node, "--oneliner").split() if "=" in word)
    return facts.get("NodeAddr", node)


def free_port() -> int:
    """Find a free port on this machine, the job's first node."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


def _asked(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise UserError(command[0], f"`{' '.join(command)}` failed: {said.strip()}; check whether Slurm responds on this node") from None


def _hand_on(number: int, frame: FrameType | None) -> None:
    import psutil

    for process in psutil.Process().children():
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    main()
