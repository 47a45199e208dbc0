"""Causes of job failures, inferred from the ledger's entry, the job's log, Slurm's log and accounting, and Snakemake's message."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boldscribe.machinery.registry import the_workflow
from boldscribe.machinery.runs.accounting import Account
from boldscribe.machinery.runs.logs import Attempt
from boldscribe.machinery.runs.schedule import duration


@dataclass(frozen=True)
class Evidence:
    """Evidence about a job's last attempt.

    Attributes:
        rule: name of the rule.
        exit: exit of the ledger's entry, as `failed: UserError`; empty if the job ended without an entry.
        attempt: last attempt in the job's own log; None if it never wrote one.
        slurm_log: Slurm's log; empty without Slurm.
        account: Slurm's accounting record.
        controller: Snakemake's message about the job.
        shared: whether it shared a Slurm job with others.
    """

    rule: str
    exit: str = ""
    attempt: Attempt | None = None
    slurm_log: str = ""
    account: Account | None = None
    controller: str = ""
    shared: bool = False

    @property
    def text(self) -> str:
        """Log of the last attempt."""
        return self.attempt.text if self.attempt else ""

    @property
    def state(self) -> str:
        """Slurm's state; empty if unknown."""
        return self.account.state if self.account else ""


@dataclass(frozen=True)
class Cause:
    """Cause of a failure in at most three words, with its remedy and the log lines that show it."""

    name: str
    remedy: str
    lines: tuple[str, ...]


OUT_OF_MEMORY = "out of memory"
MISTAKE = "input at fault"
UNKNOWN = "unknown"
LAST_LINES = 6
MISTAKE_LINES = 12

KILLED_FOR_MEMORY = r"exceeded (job )?memory limit|Exceeded step memory limit|oom[-_ ]kill|Out Of Memory"
NO_MEMORY = r"\bMemoryError\b|Cannot allocate memory|std::bad_alloc|DefaultCPUAllocator: (can't|not enough)|a worker process was killed"
KILLED = r"SIGKILL|exit(ed with)? (status|code):? (137|-9)\b|\bKilled$"
NO_GPU_MEMORY = r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
DISK_FULL = r"No space left on device|Errno 28\b|Disk quota exceeded|Errno 122\b"
NO_PACKAGE = r"^(ModuleNotFoundError|ImportError): .*|^\S*(?:bash|sh|env)[^\n]*: (\S+): (command not found|No such file or directory)$"
GPU_TROUBLE = (
    r"CUDA driver version is insufficient|driver on your system is too old|No CUDA GPUs are available|no CUDA-capable device|"
    r"CUDA error: [^\n]*|CUDA unknown error|NVML[^\n]*(mismatch|error)|NCCL (error|WARN)[^\n]*|uncorrectable ECC error|fallen off the bus|"
    r"Torch not compiled with CUDA enabled"
)
NO_NETWORK = r"Temporary failure in name resolution|Name or service not known|Max retries exceeded|ConnectionError|Network is unreachable"
OFFLINE = r"found an attempt to reach (\S+) over the network"
NOT_INSTALLED = r"package \S+: found none in "
PREEMPTED = r"preempted: (\w+)|failed: (SystemExit|KeyboardInterrupt)"


def diagnose(evidence: Evidence) -> Cause:
    """Return the likeliest cause: by Slurm if it reports one, then by the log (clearest sign first), then by how the job ended."""
    for find in (_by_slurm, _by_log, _by_ending):
        if (cause := find(evidence)) is not None:
            return cause
    lines = _last(evidence)
    last = next((line for line in reversed(lines) if re.match(r"^[\w.]+(Error|Exception|Interrupt|Exit)\b", line)), "")
    told = (
        f"The last error was `{_short(last)}`. "
        if last
        else f"Snakemake says: {_short(evidence.controller)}. "
        if evidence.controller
        else ""
    )
    return Cause(UNKNOWN, f"{told}Read the log; if the fault is not yours, report it with the log and `boldscribe doctor`'s output.", lines)


def _by_slurm(e: Evidence) -> Cause | None:
    """Diagnose from Slurm's accounting, or from Snakemake's message about Slurm."""
    account = e.account
    if account is None:
        if "sbatch failed" in e.controller:
            said = re.search(r"'(.*)'", e.controller)
            message = said[1] if said else e.controller
            return Cause(
                "refused by Slurm",
                f"Slurm rejected the job: change its request (`boldscribe plan` shows what partitions allow; account, QOS and "
                f"partitions are set in site.yaml), or for rule {e.rule} only, use `--set-resources {e.rule}:slurm_partition=...`.",
                tuple(m for m in re.split(r"\s*sbatch: error: ", message) if m),
            )
        return None
    asked, limit = account.asked_mb, account.limit
    if account.state == "TIMEOUT" or (account.state == "CANCELLED" and "DUE TO TIME LIMIT" in e.slurm_log):
        more = f"--set-resources {e.rule}:runtime={max(30, round(2 * limit / 60))}` (min)"
        fewer = f"--group-components '{e.rule}_{{dataset}}=5'` (number of jobs that share its time)"
        return Cause(
            "time limit",
            f"It had {duration(limit) if limit else 'its time'} and did not finish. Snakemake requests more at the next attempt; for a "
            f"permanent change: `{fewer if e.shared else more}. Training runs continue from their last checkpoint.",
            _last(e),
        )
    if account.state == "OUT_OF_MEMORY" or re.search(KILLED_FOR_MEMORY, e.slurm_log, re.I):
        used = f" and used {account.used_mb:,.0f} MB when last measured" if account.used_mb else ""
        told = f"It requested {asked:,.0f} MB{used}. " if asked else ""
        return _memory(e, told, max(1000, round(2 * asked)))
    if account.state in ("NODE_FAIL", "BOOT_FAIL"):
        return Cause(
            "node failure",
            f"{account.node or 'The node'} failed, not the job: run the same command again. If it recurs on the same node, exclude "
            f"the node with `--set-resources {e.rule}:slurm_extra=\"'--exclude={account.node}'\"` and inform the cluster's staff.",
            _last(e),
        )
    if account.state in ("PREEMPTED", "REVOKED"):
        return Cause(
            "preempted",
            "Jobs of higher priority took its place. Run the same command again: training runs continue from their last checkpoint.",
            _last(e),
        )
    if account.state in ("CANCELLED", "DEADLINE"):
        return Cause(
            "cancelled",
            "It was cancelled (`scancel`, a stopped Snakemake, or the staff). Run the same command again to continue.",
            _last(e),
        )
    return None


def _by_log(e: Evidence) -> Cause | None:
    """Diagnose from the job's own log."""
    if found := re.search(OFFLINE, e.text):
        return Cause(
            "network attempt",
            f"A step tried to reach {found[1]}, but only `boldscribe fetch` may use the network: run the command named in the "
            f"message on a machine with a network, then the same Snakemake command again.",
            _mistake(e) or _last(e),
        )
    if found := re.search(NO_GPU_MEMORY, e.text, re.M):
        return Cause(
            "GPU memory full",
            f"The GPU did not have enough memory. Lower the batch size ({the_workflow().smaller_on_gpu}), or request a larger GPU "
            "(`gpu_model` in site.yaml).",
            _around(e, found),
        )
    if found := re.search(DISK_FULL, e.text, re.M):
        return Cause(
            "disk full",
            "No space was left on the results' file system or in the node's scratch: check `df -h` and `df -i` there (or your quota), "
            "free some space, and run the same command again; `boldscribe plan` shows what a run needs.",
            _around(e, found),
        )
    if found := re.search(NO_MEMORY, e.text, re.M):
        return _memory(e, "", 0, found)
    mistake = _mistake(e)
    if re.search(NOT_INSTALLED, "\n".join(mistake)):
        return Cause("missing package", "Do what the message says; `boldscribe doctor` shows what else is missing.", mistake)
    if mistake and e.exit in ("", "failed: UserError"):
        return Cause(MISTAKE, "Do what the message says, then run the same command again; the job is not retried until then.", mistake)
    both = f"{e.text}\n{e.slurm_log}"
    if found := re.search(NO_PACKAGE, both, re.M):
        return Cause(
            "missing package",
            "The job does not use the Python of the locked environment: activate it (`source .venv/bin/activate`) before Snakemake, on a "
            "disk that nodes see, or rebuild it with `make setup`; `boldscribe doctor` shows what is missing.",
            (_short(found[0]),),
        )
    if found := re.search(GPU_TROUBLE, both, re.M):
        return Cause(
            "GPU or driver",
            f"The GPU{' of ' + e.account.node if e.account and e.account.node else ''} could not be used: check `nvidia-smi` and "
            "`boldscribe doctor` on that node. If other nodes work, exclude this one and inform the staff.",
            _around(e, found),
        )
    if found := re.search(NO_NETWORK, e.text):
        return Cause(
            "no network",
            "Fetching had no connection: run `boldscribe fetch` where there is one (a login node); it continues where it stopped.",
            _around(e, found),
        )
    return None


def _by_ending(e: Evidence) -> Cause | None:
    """Diagnose from how the job ended, if the log shows nothing."""
    if re.search(KILLED, f"{e.controller}\n{e.slurm_log}", re.M) or (e.account and e.account.exit_code.endswith(":9")):
        return _memory(e, "It was killed (SIGKILL) without a message, most often for lack of memory. ", 0)
    if found := re.match(PREEMPTED, e.exit):
        told = f"by {found[1]} " if found[1] else ""
        return Cause(
            "stopped",
            f"It was asked {told}to exit (Ctrl-C, `scancel`, preemption, an approaching limit). Run the same command again: training runs "
            "continue from their saved state.",
            _last(e),
        )
    if not e.exit and e.attempt is not None and not e.controller and not e.state:
        return Cause(
            "ended without word",
            "It started, and no source reports how it ended: it was killed along with Snakemake or the machine. Run the same command "
            "again.",
            _last(e),
        )
    return None


def _memory(e: Evidence, told: str, megabytes: int, found: re.Match[str] | None = None) -> Cause:
    amount = str(megabytes) if megabytes else "..."
    return Cause(
        OUT_OF_MEMORY,
        f"{told}Snakemake requests more at the next attempt if the profile allows retries; for a permanent change: "
        f"`--set-resources {e.rule}:mem_mb={amount}`" + ("." if e.account else ", or run fewer jobs at a time (`--cores`)."),
        _around(e, found) if found else tuple(dict.fromkeys(_last(e) + _telling(e.slurm_log))),
    )


def _mistake(e: Evidence) -> tuple[str, ...]:
    """Return the message of a user's mistake, which ends the log: from its `error: ` line on."""
    lines = e.attempt.lines() if e.attempt else []
    start = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("error: ")), None)
    if start is None:
        return ()
    shown = lines[start : start + MISTAKE_LINES]
    more = len(lines) - start - len(shown)
    return tuple(shown + ([f"... {more} more lines in the log"] if more else []))


def _last(e: Evidence) -> tuple[str, ...]:
    """Return the last lines of the job's log, or of Slurm's log if the job never wrote one."""
    lines = e.attempt.lines() if e.attempt else []
    if not lines:
        return _telling(e.slurm_log) or tuple(_short(line) for line in e.slurm_log.splitlines()[-LAST_LINES:] if line.strip())
    return tuple(_short(line) for line in lines[-LAST_LINES:])


def _around(e: Evidence, found: re.Match[str]) -> tuple[str, ...]:
    """Return the line that shows the cause, and those that follow."""
    lines = e.attempt.lines() if e.attempt else []
    at = max((i for i, line in enumerate(lines) if found[0].splitlines()[0] in line), default=None)
    return tuple(_short(line) for line in lines[at : at + 3]) if at is not None else (_short(found[0]),)


def _telling(slurm_log: str) -> tuple[str, ...]:
    """Return the lines of Slurm's log that Slurm itself wrote."""
    own = [line for line in slurm_log.splitlines() if re.match(r"slurmstepd|srun: error|\*\*\*", line)]
    return tuple(_short(line) for line in list(dict.fromkeys(own))[:2])


def _short(line: str) -> str:
    return line if len(line) <= 160 else f"{line[:157]}..."
