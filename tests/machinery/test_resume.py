"""Trainings that are killed go on bit by bit; trainings in two processes do what one does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.training.distributed import check_divisible, whole_batch
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2
from tests.conftest import PATIENCE, ROOT
from tests.training_fixtures import stage1_inputs, stage2_inputs

STEPS_PER_CHECKPOINT = 2
TOLERANCE = 1e-5  # of a loss, relative: sums in another order


def kill_at(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let trainings die in the middle of the given steps, each once, before the optimiser moves; returns all steps that were begun."""
    begun: list[int] = []
    update, save = Optimisation.update, Optimisation.save

    def update_or_die(self: Optimisation, values: Any) -> None:
        begun.append(self.done)
        if self.done in steps:
            steps.remove(self.done)
            raise KeyboardInterrupt
        update(self, values)

    def save_at_times(self: Optimisation) -> None:
        if self.done % STEPS_PER_CHECKPOINT == 0:
            save(self)

    monkeypatch.setattr(Optimisation, "update", update_or_die)
    monkeypatch.setattr(Optimisation, "save", save_at_times)
    monkeypatch.setattr("boldscribe.training.optimisation.CHECKPOINT_SHARE", float("inf"))
    return begun


def train_through(kills: list[int], train: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run a training again after each kill; returns the steps that were begun."""
    begun = kill_at(list(kills), monkeypatch)
    for _ in kills:
        with pytest.raises(KeyboardInterrupt):
            train()
    train()
    monkeypatch.undo()
    return begun


def same_files(one: Path, other: Path) -> None:
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file()) and names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_stage1_killed_at_three_steps_ends_bit_by_bit_as_one_that_was_not(
    tiny: Config, data: SimpleNamespace, pretrained: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kills = sorted(np.random.default_rng().choice(range(1, 16), 3, replace=False).tolist())
    arguments = {**stage1_inputs(data, pretrained), "output_dir": tmp_path / "out", "work_dir": tmp_path / "work"}
    begun = train_through(kills, lambda: train_stage1(tiny, "had", **arguments), monkeypatch)
    resumed_at = [b for a, b in pairwise(begun) if b != a + 1]
    assert resumed_at == [k // STEPS_PER_CHECKPOINT * STEPS_PER_CHECKPOINT for k in kills], f"killed at {kills}"
    same_files(trained, tmp_path / "out")


def test_a_stage2_killed_at_three_steps_ends_bit_by_bit_as_one_that_was_not(
    tiny: Config, data: SimpleNamespace, tokens: dict[str, Path], small_llm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(name: str) -> None:
        train_stage2(tiny, "had", **stage2_inputs(data, tokens, small_llm), output_dir=tmp_path / name, work_dir=tmp_path / f"w{name}")

    train("whole")
    kills = sorted(np.random.default_rng().choice(range(1, tiny.stage2.steps), 3, replace=False).tolist())
    begun = train_through(kills, lambda: train("killed"), monkeypatch)
    assert len(begun) > tiny.stage2.steps, f"killed at {kills}"
    same_files(tmp_path / "whole", tmp_path / "killed")


def test_a_killed_pretraining_goes_on_bit_by_bit(
    tiny: Config, data: SimpleNamespace, pretrained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = {"weights": tmp_path / "sc_mbm.safetensors", "curve": tmp_path / "c.parquet", "work_dir": tmp_path / "w"}
    train_through([3], lambda: pretrain_sc_mbm(tiny, "had", series=data.series[:2], trials=data.trials[:2], **out), monkeypatch)
    assert out["weights"].read_bytes() == pretrained.read_bytes()
    assert out["curve"].read_bytes() == (data.root / "c.parquet").read_bytes()


def in_processes(n: int, *command: str) -> None:
    """Run Python with a command line, in n processes that know each other if there are several."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)] if n > 1 else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, *launch, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("stage", ["stage1", pytest.param("stage2", marks=pytest.mark.slow)])
def test_two_processes_have_the_learning_curve_of_one(
    stage: str, tiny: Config, data: SimpleNamespace, pretrained: Path, tokens: dict[str, Path], small_llm: Path, tmp_path: Path
) -> None:
    """Noise and dropout are off: processes draw their own."""
    config = tiny.model_dump(by_alias=True, mode="json")
    config["stage1"].update(noise=0.0, dropout=0.0, epochs=3)
    given = stage1_inputs(data, pretrained) if stage == "stage1" else stage2_inputs(data, tokens, small_llm)
    curves = []
    for n in (1, 2):
        arguments = {**given, "output_dir": tmp_path / f"{n}", "work_dir": tmp_path / f"work{n}", "config": config}
        (tmp_path / f"{n}.json").write_text(json.dumps(arguments, default=str))
        in_processes(n, "-m", "tests.train_in_process", stage, str(tmp_path / f"{n}.json"))
        curves.append(pd.read_parquet(tmp_path / f"{n}" / "curve.parquet"))
    one, two = curves
    assert list(one.columns) == list(two.columns) and len(one) == len(two) > 2
    pd.testing.assert_frame_equal(one, two, rtol=TOLERANCE, atol=1e-5)
    assert one["loss"].iloc[-1] != pytest.approx(one["loss"].iloc[0], rel=100 * TOLERANCE), "there is a curve to compare"


def test_batches_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert whole_batch(12, 100, "trials") == 12 and whole_batch(12, 11, "trials") == 9 and whole_batch(12, 8, "trials", parts=2) == 6
    with pytest.raises(UserError, match=r"trials: found 5, expected at least 6: 3 process\(es\) x 2 part\(s\)"):
        whole_batch(12, 5, "trials", parts=2)
    with pytest.raises(UserError, match=r"stage1\.batch_size: found 32, expected a multiple of 3"):
        check_divisible(32, "stage1.batch_size")


def test_gathered_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    program = tmp_path / "gathering.py"
    program.write_text(
        "import torch\n"
        "from boldscribe.losses import clip_loss\n"
        "from boldscribe.training.distributed import average_gradients, gather, gather_rows, process_group, rank, share, spread\n"
        "with process_group():\n"
        "    torch.manual_seed(0)\n"
        "    layer, z, x = torch.nn.Linear(4, 4).double(), torch.randn(6, 2, 4).double(), torch.randn(6, 2, 4).double()\n"
        "    clip_loss(layer(z), x, 0.1).backward()\n"
        "    whole = layer.weight.grad.clone()\n"
        "    layer.zero_grad()\n"
        "    clip_loss(gather(layer(share(z))), gather(share(x)), 0.1).backward()\n"
        "    average_gradients(layer.parameters())\n"
        "    torch.testing.assert_close(layer.weight.grad, whole)\n"
        "    rows = torch.arange(5.0)[:, None]\n"
        "    assert torch.equal(gather_rows(rows[list(spread(5))], 5), rows)\n"
    )
    in_processes(2, str(program))
