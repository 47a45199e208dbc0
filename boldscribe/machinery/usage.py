"""Resource usage of a step: time, memory of all its processes, and each GPU's memory, utilisation and energy.

A thread samples the step's processes once a second, and GPUs through NVML. Only GPUs that the step computes on count, so that a step
without one reports none instead of 0% of someone else's. The figures are in the records and in the ledger (docs/provenance.md), and
`boldscribe usage` tabulates them.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MIB = 2**20
INTERVAL = 1.0  # s between samples, or more
SETTLED = 0.5  # s: a younger process may be a fork of its parent that has not called exec yet
SHARE = 0.01  # of a core's time that sampling may take


@dataclass
class _Gpu:
    """One GPU of this process: NVML's handle and measurements; `None` if it does not report a figure."""

    handle: Any
    name: str
    energy_at_start: float | None
    energy: float | None = None
    memory: float | None = None
    utilisation: list[float] = field(default_factory=list)
    used: bool = False


class Usage:
    """Resource usage of a step; complete when its block has ended.

    Args:
        root: process whose descendants count; this one, or the launcher of all training processes on this node.
    """

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._clock, self._seconds_before = time.monotonic(), sum(map(_cpu_seconds, _tree(root)))
        self._wall, self._cpu, self._memory = 0.0, 0.0, 0.0
        self._requested: int | None = None
        self._nvml = _nvml()
        self._gpus = self._visible_gpus()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="usage")

    def start(self) -> None:
        """Start sampling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling, after one last sample."""
        self._ended.set()
        self._thread.join()
        self._look()
        self._wall = time.monotonic() - self._clock
        self._memory = max(self._memory, _own_peak())

    def figures(self) -> dict[str, Any]:
        """Return JSON: wall and CPU seconds, peak memory (MiB), memory requested from Slurm (MiB), and a line per GPU in use.

        Figures that are unavailable here are None, and `gpus` is empty if the step used none.
        """
        return {
            "wall_seconds": round(self._wall, 2),
            "cpu_seconds": round(self._cpu, 2),
            "memory_mib": round(self._memory / MIB, 1),
            "requested_mib": self._requested,
            "gpus": [_line(gpu) for gpu in self._gpus if gpu.used] or _by_torch(),
        }

    def _watch(self) -> None:
        self._requested = _requested_mib()
        cost = 0.0
        while not self._ended.wait(max(INTERVAL, cost / SHARE)):
            clock = time.thread_time()
            self._look()
            cost = time.thread_time() - clock

    def _look(self) -> None:
        processes = _tree(self._root)
        memory = 0.0
        for process in processes:
            with suppress(psutil.Error):
                if process == self._root or time.time() - process.create_time() > SETTLED:
                    memory += process.memory_info().rss
        self._memory = max(self._memory, memory)
        self._cpu = max(self._cpu, sum(map(_cpu_seconds, processes)) - self._seconds_before)
        for gpu in self._gpus:
            with suppress(self._nvml.NVMLError):
                self._look_at(gpu, {process.pid for process in processes})

    def _look_at(self, gpu: _Gpu, pids: set[int]) -> None:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
        own = [process for process in running if process.pid in pids]
        # In a container NVML may report other process ids: then the whole GPU counts.
        if not own and not _computes_on_gpu():
            return
        gpu.used = True
        memory = [process.usedGpuMemory for process in own]
        if not own or None in memory:
            memory = [self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle).used]
        gpu.memory = max(gpu.memory or 0.0, sum(memory))
        with suppress(self._nvml.NVMLError):
            gpu.utilisation.append(self._nvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu)
        if (now := self._energy(gpu.handle)) is not None and gpu.energy_at_start is not None:
            gpu.energy = now - gpu.energy_at_start

    def _visible_gpus(self) -> list[_Gpu]:
        if self._nvml is None:
            return []
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus: list[_Gpu] = []
        for name in named.split(",") if named is not None else map(str, range(self._nvml.nvmlDeviceGetCount())):
            with suppress(self._nvml.NVMLError, ValueError):
                by_number = name.strip().isdigit()
                ask = self._nvml.nvmlDeviceGetHandleByIndex if by_number else self._nvml.nvmlDeviceGetHandleByUUID
                handle = ask(int(name) if by_number else name.strip())
                gpus.append(_Gpu(handle, str(self._nvml.nvmlDeviceGetName(handle)), self._energy(handle)))
        return gpus

    def _energy(self, handle: Any) -> float | None:
        """Return the energy since the driver was loaded (J)."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except self._nvml.NVMLError:  # slices of a GPU, and GPUs before Volta, do not measure it
            return None


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the resource usage of the block."""
    several = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1
    usage = Usage(psutil.Process(os.getppid() if several else os.getpid()))
    usage.start()
    try:
        yield usage
    finally:
        usage.stop()


def _nvml() -> Any:
    """Initialise and return NVIDIA's management library; None if it, its package or a GPU is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _computes_on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _by_torch() -> list[dict[str, Any]]:
    """Return torch's own figures of its GPUs, for use without NVML."""
    if not _computes_on_gpu():
        return []
    cuda = sys.modules["torch"].cuda
    memory = {i: cuda.max_memory_reserved(i) for i in range(cuda.device_count())}
    used = [_Gpu(None, cuda.get_device_name(i), None, memory=most) for i, most in memory.items() if most]
    return [_line(gpu) for gpu in used]


def _line(gpu: _Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "memory_mib": None if gpu.memory is None else round(gpu.memory / MIB, 1),
        "utilisation_percent": round(sum(gpu.utilisation) / len(gpu.utilisation), 1) if gpu.utilisation else None,
        "energy_joules": None if gpu.energy is None else round(gpu.energy, 1),
    }


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _own_peak() -> float:
    """Return the peak memory of this process (bytes), including between samples.

    Linux's VmHWM is preferred: the figure of `getrusage` starts at the size of the program that started this one.
    """
    with suppress(OSError, StopIteration):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) * 1024
    most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else most * 1024


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _requested_mib() -> int | None:
    """Query Slurm for the requested memory per node (MiB), since Snakemake's job step drops the variable that states it."""
    if (job := os.environ.get("SLURM_JOB_ID")) is None:
        return None
    try:
        said = subprocess.run(["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    words = dict(word.split("=", 1) for word in said.split() if "=" in word)
    number = words.get("MinMemoryNode", "")
    units = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
    try:
        return round(float(number[:-1]) * units[number[-1]]) or None
    except (ValueError, KeyError, IndexError):
        return None
