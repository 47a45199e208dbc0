"""The launcher of trainings: signals reach all processes, exit codes come back, and nodes compute what one node does."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from boldscribe.config import Config
from boldscribe.training.launch import free_port
from tests.conftest import ROOT
from tests.machinery.test_preemption import LIMIT, exits, left_by, small_training, without_slurm
from tests.machinery.test_resume import same_files
from tests.training_fixtures import stage1_inputs

LAUNCH = (sys.executable, "-m", "boldscribe.training.launch")


@pytest.mark.parametrize("number", [signal.SIGURG, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_two_processes_leave_after_the_same_step_and_go_on_to_the_same_bytes(number: signal.Signals, tmp_path: Path) -> None:
    two = (*LAUNCH, "--processes", "2", "--")
    assert left_by(number, tmp_path / "left", 60, *two) == {signal.SIGURG: 75, signal.SIGTERM: 143}[number]
    assert exits(tmp_path / "left") == [f"preempted: {number.name}"], "the first process alone writes to the ledger"
    steps = [int((tmp_path / "left" / "work" / f"step.{rank}").read_text()) for rank in (0, 1)]
    saved = max(int(path.stem) for path in (tmp_path / "left" / "work").rglob("*.safetensors"))
    assert steps == [saved - 1, saved - 1] and saved < 60
    for name in ("left", "whole"):
        assert small_training(tmp_path / name, 60, *two).wait(LIMIT) == 0
    results = [tmp_path / name / "results" / "out.txt" for name in ("left", "whole")]
    assert results[0].read_bytes() == results[1].read_bytes()


def test_two_nodes_train_to_the_bytes_of_two_processes_on_one(
    tiny: Config, data: SimpleNamespace, pretrained: Path, tmp_path: Path
) -> None:
    """The nodes are two launchers on this machine, which meet over its loopback."""
    config = tiny.model_dump(by_alias=True, mode="json")
    config["stage1"].update(epochs=3)
    meeting = f"127.0.0.1:{free_port()}"
    starts = {"one": [[]], "two": [["--nodes", "2", "--rendezvous", meeting, *first] for first in (["--first"], [])]}
    for name, launchers in starts.items():
        given = {**stage1_inputs(data, pretrained), "output_dir": tmp_path / name, "work_dir": tmp_path / f"work-{name}", "config": config}
        (tmp_path / f"{name}.json").write_text(json.dumps(given, default=str))
        command = ["--", "tests.train_in_process", "stage1", str(tmp_path / f"{name}.json")]
        processes = [
            subprocess.Popen([*LAUNCH, "--processes", "2", *options, *command], cwd=ROOT, env=without_slurm()) for options in launchers
        ]
        assert [process.wait(LIMIT) for process in processes] == [0] * len(launchers)
    same_files(tmp_path / "one", tmp_path / "two")


def test_one_process_is_the_module_itself_and_a_failure_of_one_of_two_is_that_of_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    for processes, code in ((1, 4), (2, 5)):
        command = [*LAUNCH, "--processes", str(processes), "--", "ends", str(code)]
        environment = without_slurm()
        environment["PYTHONPATH"] += f":{tmp_path}"
        assert subprocess.run(command, cwd=ROOT, env=environment, timeout=LIMIT).returncode == code


def test_several_nodes_need_a_slurm_job() -> None:
    command = [*LAUNCH, "--processes", "2", "--nodes", "2", "--", "tests.small_training"]
    done = subprocess.run(command, cwd=ROOT, env=without_slurm(), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: training.nodes: found 2, expected 1: this is not a Slurm job"), done.stderr
