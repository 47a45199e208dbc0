"""Pretraining and Stage I: they learn, and refuse anything of a target subject; and what all trainings share."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.features import video_tokens
from boldscribe.training.checkpoints import Checkpoints, fingerprint
from boldscribe.training.learning_rate import warmup_cosine
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.source import source_trials
from boldscribe.training.stage1 import quality, retrieval_rank, split_clips, train_stage1
from tests.training_fixtures import stage1_inputs


def test_stage1_learns_what_it_is_shown(trained: Path) -> None:
    curve = pd.read_parquet(trained / "curve.parquet")
    assert curve["clip"].iloc[-1] < 0.5 * curve["clip"].iloc[0], "each of the few trials is told from the others"
    assert curve["reconstruction"].iloc[-1] < curve["reconstruction"].iloc[0]
    assert (curve["temperature"] != curve["temperature"].iloc[0]).any()


def test_a_trial_without_label_is_not_passed_over(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    fewer = tmp_path / "labels.parquet"
    pd.read_parquet(data.labels[0]).iloc[1:].to_parquet(fewer)
    with pytest.raises(UserError, match=r"found 23 labels for 24 trials"):
        source_trials(tiny, "had", data.trials[:2], [fewer, data.labels[1]])


def test_stage1_refuses_a_target_subject(tiny: Config, data: SimpleNamespace, pretrained: Path, tmp_path: Path) -> None:
    leaking = {**stage1_inputs(data, pretrained), "series": data.series, "trials": data.trials, "labels": data.labels}
    with pytest.raises(UserError, match=r"trials of had: subject: found 03, expected source subjects only"):
        train_stage1(tiny, "had", **leaking, output_dir=tmp_path, work_dir=tmp_path)
    with pytest.raises(UserError, match="found 03"):
        pretrain_sc_mbm(
            tiny, "had", series=data.series, trials=data.trials, weights=tmp_path / "w", curve=tmp_path / "c", work_dir=tmp_path
        )


def test_retrieval_rank_is_half_at_chance_and_one_when_perfect() -> None:
    x = torch.randn(30, 2, 16)
    assert retrieval_rank(x, x) == pytest.approx(1.0)
    assert retrieval_rank(torch.ones(30, 2, 16), x) == pytest.approx(0.5, abs=0.02)


def test_checkpoints_keep_two_and_survive_a_torn_file(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    checkpoints = Checkpoints("stage1", tmp_path / "work", {"a": 1}, [file])
    for number in (1, 2, 3):
        checkpoints.save(number, {"w": torch.full((2,), float(number))}, {"number": number})
    paths = sorted(p.name for p in checkpoints.folder.iterdir())
    assert paths == ["000002.safetensors", "000003.safetensors"]
    (checkpoints.folder / "000003.safetensors").write_bytes(b"torn")
    found = checkpoints.latest()
    assert found is not None and found[0] == 2 and found[1]["w"][0] == 2 and found[2] == {"number": 2}
    before = fingerprint("stage1", {"a": 1}, [file])
    file.write_text("y")
    assert fingerprint("stage1", {"a": 1}, [file]) != before != fingerprint("stage1", {"a": 2}, [file])


def test_learning_rate_warms_up_and_ends_where_it_should() -> None:
    rates = [warmup_cosine(i, total=100, warmup=10, peak=1.0, end=0.1) for i in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == rates[10] == 1.0 and rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_clip_without_features_is_named(tiny: Config, data: SimpleNamespace) -> None:
    with pytest.raises(UserError, match=r"found no features for 1 clip\(s\) \(other\.mp4\)"):
        video_tokens(tiny, data.features, ["clip-00.mp4", "other.mp4"], torch.device("cpu"))


def test_held_out_clips_are_trained_on_in_no_subject() -> None:
    clips = pd.Series([f"{i % 20}.mp4" for i in range(60)])
    held_out, training = split_clips(clips, 0.1, np.random.default_rng(0))
    assert len(held_out) == 2 * 3 and sorted([*held_out, *training]) == list(range(60))
    assert not set(clips[held_out]) & set(clips[training])


def test_of_epochs_that_retrieve_alike_the_better_reconstruction_wins() -> None:
    rows = [{"held_out_rank": r, "held_out_reconstruction": d} for r, d in ((0.9, 0.1), (0.97, 0.3), (0.97, 0.2), (0.97, 0.25))]
    assert max(rows, key=quality) == rows[2]
