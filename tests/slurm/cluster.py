"""Start and stop a throw-away Slurm on this machine: `python -m tests.slurm.cluster up|down FOLDER`, as root; `can`:
could it be?

It is Slurm itself, from Debian's packages (SLURM_PACKAGES), with accounting in a MariaDB of its own. What is smaller than on a cluster: two
nodes are two daemons on this machine; their GPUs are device files that Slurm hands out, and none of them computes; memory is watched
by polling, not by cgroups. The configuration has to lie in /etc/slurm, since Snakemake's job steps hand on no other place.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

SLURM_PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server"]
ETC = Path("/etc/slurm")
MARK = "# made by tests/slurm/cluster.py\n"
NODES = ("node1", "node2")
UP = {"idle", "mixed", "allocated", "completing"}
# In the order in which they must end: those that others need last.
DAEMONS = (*(f"slurmd-{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadb", "munged")
SLURM_CONF = """ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AuthInfo=cred_expire=10
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
KillWait=5
MinJobAge=600
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=2,requeue_setup_env_fail
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStorageEnforce=associations
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:2
PartitionName=cpu Nodes=node1 Default=YES DefaultTime=10 MaxTime=1440 PriorityTier=1
PartitionName=gpu Nodes=node1 DefaultTime=10 MaxTime=1440 PriorityTier=1
PartitionName=pair Nodes=node1,node2 DefaultTime=10 MaxTime=1440 PriorityTier=1
PartitionName=high Nodes=node1 DefaultTime=10 MaxTime=60 PriorityTier=10
"""
# A requeued job waits as long as credentials live (cred_expire): two minutes by default.
# GPUs are told apart by device files, of which any will do.
GRES_CONF = "NodeName=node1 Name=gpu Type=fake File=/dev/null\nNodeName=node1 Name=gpu Type=fake File=/dev/zero\n"
GRES_CONF += "NodeName=node2 Name=gpu Type=fake File=/dev/full\nNodeName=node2 Name=gpu Type=fake File=/dev/random\n"
SLURMDBD_CONF = """AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=33306
StorageUser=slurm
StoragePass=ci
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
"""


def running() -> Path | None:
    """Folder of the cluster of this kind that runs here; None if none does."""
    configuration = ETC / "slurm.conf"
    if not configuration.exists() or not (content := configuration.read_text()).startswith(MARK) or not _works("sinfo", "-h"):
        return None
    return Path(re.findall(r"(?m)^StateSaveLocation=(.*)/state$", content)[0])


def missing() -> str:
    """What stands against starting one here; empty if nothing does."""
    needed = ("slurmctld", "slurmd", "sbatch", "slurmdbd", "munged", "mariadbd")
    absent = [name for name in needed if shutil.which(name, path=_path()) is None]
    if absent:
        return f"no {', '.join(absent)}; install the Debian packages {' '.join(SLURM_PACKAGES)}"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root"
    if (ETC / "slurm.conf").exists() and MARK not in (ETC / "slurm.conf").read_text():
        return f"{ETC}/slurm.conf is of a cluster that is not ours"
    return ""


def up(folder: Path, cpus: int | None = None) -> None:
    """Start it, with its state in a folder.

    Args:
        folder: may hold the state of an earlier one, which goes on.
        cpus: of each node; those of this machine by default.
    """
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "log", "run", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Path("/run/munge").mkdir(exist_ok=True)
    ETC.mkdir(exist_ok=True)
    hosts = Path("/etc/hosts")
    if host not in hosts.read_text().split():
        hosts.write_text(f"{hosts.read_text().rstrip()}\n127.0.0.1 {host}\n")
    memory = psutil.virtual_memory().total // 2**20 - 512
    values = {"folder": folder, "host": host, "memory": memory, "cpus": cpus or os.cpu_count()}
    for name, content in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF), ("slurmdbd.conf", SLURMDBD_CONF)):
        path = ETC / name
        path.write_text(MARK + content.format(**values))
        path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)
    _munge(folder)
    _accounting(folder)
    _run("slurmctld")
    for node in NODES:
        start_node(node)
    _wait(lambda: len(states := _output("sinfo", "-h", "-N", "-o", "%T").split()) > 1 and not set(states) - UP, "its nodes")


def start_node(node: str) -> None:
    """Start a node's daemon, or start it again."""
    _run("slurmd", "-N", node)


def down(folder: Path) -> None:
    """Stop all daemons of it, and take the configuration away."""
    for name in DAEMONS:
        stop(folder, name)
    for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
        if (ETC / name).exists() and MARK in (ETC / name).read_text():
            (ETC / name).unlink()


def stop(folder: Path, daemon: str, number: int = signal.SIGTERM) -> None:
    """End one daemon by its process number, and wait for its end."""
    path = folder / "run" / f"{daemon}.pid"
    if not path.exists() or not (text := path.read_text().strip()):
        return
    try:
        process = psutil.Process(int(text))
        process.send_signal(number)
        process.wait(20)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        process.kill()


def _munge(folder: Path) -> None:
    """The daemon by which the others know each other; its folders must not be open to others."""
    key = folder / "run" / "munge.key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
    run = folder / "run"
    _run(
        "munged", "--force", f"--key-file={key}", f"--pid-file={run}/munged.pid", f"--log-file={folder}/log/munged.log",
        f"--seed-file={run}/munged.seed",
    )  # fmt: skip


def _accounting(folder: Path) -> None:
    """MariaDB, slurmdbd, and one account with one user in it."""
    data, client = folder / "database", ["mariadb", "--no-defaults", "-S", f"{folder}/run/mariadb.sock"]
    with (folder / "log" / "mariadb.log").open("ab") as log:
        if not (data / "mysql").exists():
            install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
            subprocess.run(install, check=True, stdout=log, stderr=log)
        subprocess.Popen(
            ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={folder}/run/mariadb.sock",
             f"--pid-file={folder}/run/mariadb.pid", "--bind-address=127.0.0.1", "--port=33306"],
            stdout=log, stderr=log, start_new_session=True, env=_environment(),
        )  # fmt: skip
    _wait(lambda: _works(*client, "-e", "select 1"), "MariaDB")
    statements = "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'ci';"
    _run(*client, "-e", statements + " GRANT ALL ON slurm_acct_db.* TO slurm@localhost")
    _run("slurmdbd")
    _wait(lambda: _works("sacctmgr", "-n", "list", "cluster"), "slurmdbd")
    for what in ("cluster ci", "account neuro Cluster=ci", "user root Account=neuro"):
        _works("sacctmgr", "-i", "add", *what.split())  # fails where it exists already


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": _path()}


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _works(*command: str) -> bool:
    return subprocess.run(command, env=_environment(), capture_output=True, timeout=20, check=False).returncode == 0


def _output(*command: str) -> str:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=20, check=False).stdout


def _wait(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    action = sys.argv[1]
    if reason := missing():
        sys.exit(f"No Slurm can be started here: {reason}")
    if action == "can":
        sys.exit()
    folder = Path(sys.argv[2]).resolve()
    {"up": up, "down": down}[action](folder)
    print(_output("sinfo", "-N", "-o", "%N %P %c %m %G %T") if action == "up" else "stopped")
