"""What a step used: time, memory and GPUs, in its record, in the ledger and in a table."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.machinery.cluster.preemption import Preempted
from boldscribe.machinery.provenance.digests import record_path
from boldscribe.machinery.provenance.ledger import add_entry, read_ledger
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.usage import MIB

BURN = """
import time
held = b"x" * (800 * 2**20)
end = time.process_time() + 1
while time.process_time() < end:
    pass
time.sleep(2)
"""


def used_by(tmp_path: Path, step: Any) -> dict[str, Any]:
    """Run a step in the recorder; what its record says that it used."""
    output = tmp_path / "out.txt"
    with record(Job("tables", tmp_path, {}, {"x": [output]}, {"dataset": "had"})):
        step()
        output.write_text("made")
    found: dict[str, Any] = json.loads(record_path(output).read_text())["usage"]
    assert read_ledger(tmp_path).entries[-1]["usage"] == found
    return found


def used_in_a_process_of_its_own(folder: Path, step: str) -> dict[str, Any]:
    """The same in a process that has done nothing else: the most memory that one ever had counts."""
    script = "import subprocess, sys, time; from pathlib import Path; from tests.machinery.test_usage import BURN, used_by\n"
    script += f"used_by(Path({str(folder)!r}), lambda: {step})"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[2])
    found: dict[str, Any] = json.loads(record_path(folder / "out.txt").read_text())["usage"]
    return found


def table(results: Path) -> list[dict[str, str]]:
    done = CliRunner().invoke(main, ["usage", str(results), "--csv"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.output)))


def test_time_and_memory_of_a_step_are_those_of_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    ballast = b"x" * 2**30  # held while the processes start: what started a step is not the step's
    quiet = used_in_a_process_of_its_own(tmp_path / "quiet", "time.sleep(1.2)")
    used = used_in_a_process_of_its_own(tmp_path / "busy", "subprocess.run([sys.executable, '-c', BURN], check=True)")
    del ballast
    assert 1.2 <= quiet["wall_seconds"] < 30 and quiet["cpu_seconds"] < 0.9, "what the process did before, its imports, does not count"
    assert 1.0 <= used["cpu_seconds"] < used["wall_seconds"] + 1 and used["wall_seconds"] >= 3
    assert quiet["memory_mib"] < 800 < used["memory_mib"] < 800 + quiet["memory_mib"] + 100
    assert used["requested_mib"] is None and used["gpus"] == []
    (row,) = table(tmp_path / "busy")
    assert row["rule"] == "tables" and row["jobs"] == "1" and float(row["memory_mib"]) == used["memory_mib"]
    assert {row[name] for name in row if name.startswith(("gpu", "requested"))} == {""}, "what is not known is empty, and not 0"


class StandInNvml(ModuleType):
    """Stands in for NVIDIA's library: two GPUs of which this process computes on the second, or as said otherwise."""

    class NVMLError(Exception):
        """As NVML's."""

    def __init__(self, pid: int, *, slices: bool = False) -> None:
        super().__init__("pynvml")
        self.pid, self.slices = pid, slices
        self.energy, self.looks = 5_000_000, 0

    def nvmlInit(self) -> None:
        """Start."""

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:
        return {"GPU-a": 0, "GPU-b": 1}[name]

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"stand-in {handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.slices:
            raise self.NVMLError
        self.energy += 1000  # mJ
        return self.energy

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        self.looks += 1
        others = SimpleNamespace(pid=1, usedGpuMemory=9000 * MIB)
        return [others, SimpleNamespace(pid=self.pid, usedGpuMemory=(3000 - self.looks) * MIB)] if handle == 1 else [others]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if self.slices:
            raise self.NVMLError
        return SimpleNamespace(gpu=40 + 10 * (self.looks % 2))


def test_gpus_in_use_are_counted_and_those_of_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for NVML: this machine has no GPU."""
    monkeypatch.setattr("boldscribe.machinery.usage.INTERVAL", 0.05)
    monkeypatch.setattr("boldscribe.machinery.usage.SHARE", 1e6)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", StandInNvml(os.getpid()))
    (gpu,) = used_by(tmp_path, lambda: time.sleep(0.5))["gpus"]
    assert gpu["name"] == "stand-in 1" and 2990 < gpu["memory_mib"] < 3000
    assert 40 <= gpu["utilisation_percent"] <= 50 and 1 <= gpu["energy_joules"] < 60
    monkeypatch.setitem(sys.modules, "pynvml", StandInNvml(os.getpid(), slices=True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    (slice_,) = used_by(tmp_path, lambda: time.sleep(0.2))["gpus"]
    assert slice_["memory_mib"] and slice_["utilisation_percent"] is None and slice_["energy_joules"] is None
    (row,) = table(tmp_path)
    assert row["gpu_memory_mib"] == str(slice_["memory_mib"]) and row["gpu_energy_joules"] == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert used_by(tmp_path, lambda: time.sleep(0.2))["gpus"] == [], "somebody else computes on it"


def test_without_nvml_there_are_no_gpu_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = StandInNvml(0)
    monkeypatch.setattr(broken, "nvmlInit", lambda: (_ for _ in ()).throw(StandInNvml.NVMLError()))
    for module in (None, broken):  # no package; a package without the library
        monkeypatch.setitem(sys.modules, "pynvml", module)
        assert used_by(tmp_path, lambda: None)["gpus"] == []


def test_a_training_that_left_is_added_up_and_a_failure_is_not(tmp_path: Path) -> None:
    def entry(exit_: str, wall: float, energy: float | None, dataset: str = "had", **more: Any) -> dict[str, Any]:
        gpus = [{"name": "g", "memory_mib": 10 * wall, "utilisation_percent": wall, "energy_joules": energy}]
        usage = {"wall_seconds": wall, "cpu_seconds": 2 * wall, "memory_mib": wall, "requested_mib": 100, "gpus": gpus, **more}
        return {"rule": "stage1", "wildcards": {"dataset": dataset}, "exit": exit_, "outputs": [], "usage": usage}

    ends = [entry("failed: UserError", 50, 1), entry("preempted: SIGURG", 10, 100), entry("preempted: SIGTERM", 20, None)]
    ends += [entry("completed", 5, 7), entry("completed", 40, 1, "urgen", gpus=[])]
    for i, found in enumerate(ends):
        add_entry(tmp_path, {**found, "ended": f"2026-01-01T00:00:{i:02d}"})
    (row,) = table(tmp_path)
    assert {name: float(row[name]) for name in ("jobs", "preempted", "failed", "gpus")} == {
        "jobs": 2,
        "preempted": 2,
        "failed": 1,
        "gpus": 1,
    }
    assert (float(row["wall_seconds"]), float(row["longest_seconds"]), float(row["cpu_seconds"])) == (75, 40, 150)
    assert (float(row["memory_mib"]), row["memory_percent"], float(row["gpu_energy_joules"])) == (40, "40", 107)
    assert float(row["gpu_utilisation_percent"]) == pytest.approx((100 + 400 + 25) / 35, abs=0.05)
    shown = CliRunner().invoke(main, ["usage", str(tmp_path)])
    assert shown.exit_code == 0 and "stage1" in shown.output and "GPU memory, MiB" in shown.output
    assert "found no job with measured usage" in CliRunner().invoke(main, ["usage", str(tmp_path / "ledger")]).output


def test_usage_of_a_step_that_left_is_in_the_ledger(tmp_path: Path) -> None:
    with pytest.raises(Preempted), record(Job("stage1", tmp_path, {}, {})):
        raise Preempted(signal.SIGTERM)
    (entry,) = read_ledger(tmp_path).entries
    assert entry["exit"] == "preempted: SIGTERM" and entry["usage"]["wall_seconds"] < 30
