"""A training that a signal asks to leave saves within a step, says so in the ledger, and goes on bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boldscribe.config import Config
from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.provenance.digests import record_path
from boldscribe.machinery.provenance.ledger import new_failures, read_ledger
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2
from tests.conftest import PATIENCE, ROOT
from tests.machinery.test_resume import same_files
from tests.training_fixtures import stage1_inputs, stage2_inputs

STAGES = {"stage1": train_stage1, "stage2": train_stage2, "pretrain_sc_mbm": pretrain_sc_mbm}
STEP = {"stage1": 3, "stage2": 2, "pretrain_sc_mbm": 4}  # in the middle of an epoch where there are epochs
LIMIT = PATIENCE


def without_slurm() -> dict[str, str]:
    """The environment of a job outside Slurm."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}


def arguments_of(stage: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a training of a stage is handed, its outputs in a folder."""
    data: SimpleNamespace = request.getfixturevalue("data")
    if stage == "pretrain_sc_mbm":
        inputs = {"series": data.series[:2], "trials": data.trials[:2]}
        return inputs | {"weights": folder / "out" / "w.safetensors", "curve": folder / "out" / "c.parquet", "work_dir": folder / "work"}
    if stage == "stage1":
        inputs = stage1_inputs(data, request.getfixturevalue("pretrained"))
    else:
        inputs = stage2_inputs(data, request.getfixturevalue("tokens"), request.getfixturevalue("small_llm"))
    return inputs | {"output_dir": folder / "out", "work_dir": folder / "work"}


def start(stage: str, config: Config, arguments: dict[str, Any], folder: Path, *launch: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a training that waits in the middle of a step."""
    folder.mkdir(exist_ok=True)
    path = folder / "arguments.json"
    path.write_text(json.dumps({**arguments, "config": config.model_dump(by_alias=True, mode="json")}, default=str))
    command = [*(launch or (sys.executable, "-m")), "tests.preempted_training", stage, str(path), str(STEP[stage]), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=without_slurm(), **options)


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.poll()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("stage", "number"),
    [("stage1", signal.SIGURG), ("stage2", signal.SIGURG), ("pretrain_sc_mbm", signal.SIGURG), ("stage1", signal.SIGTERM)],
    ids=["stage1", "stage2", "pretraining", "stage1 by SIGTERM, its output read by nobody"],
)
def test_a_training_that_left_in_mid_epoch_ends_bit_by_bit_as_one_that_did_not(
    stage: str, number: signal.Signals, tiny: Config, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train: Any = STAGES[stage]
    train(tiny, "had", **arguments_of(stage, tmp_path / "whole", request))
    left = tmp_path / "left"
    arguments = arguments_of(stage, left, request)
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert reader.stdin is not None
    process = start(stage, tiny, arguments, left, stdout=reader.stdin, stderr=reader.stdin)
    reader.stdin.close()
    wait_for(left / "reached.0", process)
    if number is signal.SIGTERM:  # as bash and tee do when Slurm sends it to all
        reader.kill()
        reader.wait()
    process.send_signal(number)
    (left / "go").touch()
    assert process.wait(LIMIT) == {signal.SIGURG: 75, signal.SIGTERM: 143}[number]
    reader.kill()
    assert (left / "saved").read_text().split() == ["1", str(STEP[stage] + 1)], "saved after the step in which the signal came"
    assert [entry["exit"] for entry in read_ledger(left).entries] == [f"preempted: {number.name}"]
    assert not list(new_failures(left, stage))

    begun = []
    update = Optimisation.update
    monkeypatch.setattr(Optimisation, "update", lambda self, values: (begun.append(self.done), update(self, values)))
    train(tiny, "had", **arguments)
    assert begun[0] == STEP[stage] + 1
    same_files(tmp_path / "whole" / "out", left / "out")


def small_training(folder: Path, steps: int, *launch: str, **changes: str) -> "subprocess.Popen[bytes]":
    """Start the small training; what it says goes to FOLDER/log."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(f"paths: {{results: {folder / 'results'}}}\n")
    options = {"config": folder / "config.yaml", "work": folder / "work", "out": folder / "results" / "out.txt", "steps": steps}
    command = [*(launch or (sys.executable, "-m")), "tests.small_training", *(str(w) for n, v in options.items() for w in (f"--{n}", v))]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=without_slurm() | changes, stdout=log, stderr=log)


def left_by(number: signal.Signals, folder: Path, steps: int, *launch: str, **changes: str) -> int:
    """Start the small training, send it a signal after its first steps, and give its exit code."""
    process = small_training(folder, steps, *launch, **changes)
    wait_for(folder / "work" / "step.0", process)
    process.send_signal(number)
    return process.wait(LIMIT)


def exits(folder: Path) -> list[str]:
    return [entry["exit"] for entry in read_ledger(folder / "results").entries]


def test_what_left_twice_has_its_first_attempt_and_the_result_of_one_that_did_not(tmp_path: Path) -> None:
    assert left_by(signal.SIGURG, tmp_path / "left", 60, SLURM_JOB_ID="4294967000") == 75
    assert "does not requeue job 4294967000" in (tmp_path / "left" / "log").read_text()
    (tmp_path / "left" / "work" / "step.0").unlink()
    assert left_by(signal.SIGTERM, tmp_path / "left", 60) == 143
    assert small_training(tmp_path / "left", 60).wait(LIMIT) == 0
    assert small_training(tmp_path / "whole", 60).wait(LIMIT) == 0
    results = [tmp_path / name / "results" / "out.txt" for name in ("left", "whole")]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert exits(tmp_path / "left") == ["preempted: SIGURG", "preempted: SIGTERM", "completed"]
    activity = json.loads(record_path(results[0]).read_text())["activity"]
    assert (activity["attempt"], activity["preempted"]) == (1, 2)


NO_TRAINING = """
import os, signal, sys
from pathlib import Path
from boldscribe.workflow import Output, program

@program("tables")
def main(config, out: Output):
    os.kill(os.getpid(), signal.SIGURG)
    out.write_text("written all the same")

main()
"""


def test_a_step_that_is_no_training_does_not_mind_the_signal_before_the_limit(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"paths: {{results: {tmp_path}}}\n")
    command = [sys.executable, "-c", NO_TRAINING, "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out.txt")]
    subprocess.run(command, cwd=ROOT, env=without_slurm(), check=True, timeout=LIMIT)
    assert [entry["exit"] for entry in read_ledger(tmp_path).entries] == ["completed"]


def test_a_job_that_gets_nowhere_before_its_limit_is_not_queued_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4294967000")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked Slurm"))
    preemption.requeue(preemption.Preempted(signal.SIGURG, gained=False))
    assert "needs a longer `runtime`" in caplog.text
    preemption.requeue(preemption.Preempted(signal.SIGTERM, gained=True))
