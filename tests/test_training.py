"""Training: learns, resumes bit by bit after a kill, refuses anything of a target subject; decoding's controls are what they say."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from boldscribe import decoding
from boldscribe.config import Config
from boldscribe.decoding import derangement, matched_noise
from boldscribe.errors import UserError
from boldscribe.files import save_array
from boldscribe.training import stage1, stage2
from boldscribe.training.checkpoints import Checkpoints, fingerprint
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.schedule import warmup_cosine
from boldscribe.training.source import source_trials
from boldscribe.training.stage1 import _quality, _split, retrieval_rank, train_stage1
from boldscribe.training.stage2 import adaptation_trials, train_stage2

TRIALS = 12


@pytest.fixture(scope="module")
def tiny(demo: Config) -> Config:
    """The demo's settings, with the shortest training."""
    changes = {
        "sc_mbm": {"epochs": 2, "warmup_epochs": 1, "batch_size": 8, "depth": 1},
        "stage1": {"epochs": 8, "patience": 8, "batch_size": 8, "holdout": 0.2, "noise": 0.1, "dropout": 0.1},
        "stage2": {"steps": 2, "warmup_steps": 1, "batch_size": 2},
    }
    raw = demo.model_dump(by_alias=True)
    for section, values in changes.items():
        raw[section].update(values)
    raw["datasets"]["had"].update(train_subjects=["01", "02"], validation_subjects=["03"])
    return Config.model_validate(raw)


@pytest.fixture(scope="module")
def data(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Series, trials, labels, features and captions in the contract's form, of two source subjects and a target subject."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    grid = (8, 8, 8)
    files: dict[str, list[Path]] = {"series": [], "trials": [], "labels": []}
    clips = [f"clip-{i:02d}.mp4" for i in range(2 * TRIALS)]
    for s, subject in enumerate(("01", "02", "03")):
        T = 3 * TRIALS
        path = root / f"sub-{subject}_bold.npy"
        run = {"run": "01", "first_volume": 0, "n_volumes": T, "repetition_time": 2.0, "start_time": 0.0}
        save_array(
            path,
            rng.normal(size=(T, 512)).astype(np.float16),
            subject=subject,
            grid_shape=list(grid),
            affine=np.eye(4).tolist(),
            runs=[run],
        )
        np.save(root / f"sub-{subject}_voxels.npy", np.arange(512, dtype=np.int32))
        index = {
            "dataset": "had",
            "subject": subject,
            "run": "01",
            "trial": range(TRIALS),
            "onset": 0.0,
            "first_volume": range(0, T, 3),
            "n_volumes": 3,
            "instruction": "Describe the video.",
            "high_motion": 0.0,
        }
        role = ["train"] * TRIALS if subject != "03" else ["adapt", "test"] * (TRIALS // 2)
        pd.DataFrame({**index, "role": role}).to_parquet(root / f"sub-{subject}_trials.parquet")
        labels = {
            "subject": subject,
            "trial": range(TRIALS),
            "stim_file": clips[s % 2 * TRIALS :][:TRIALS],
            "action": ["a", "b"] * (TRIALS // 2),
        }
        pd.DataFrame(labels).to_parquet(root / f"sub-{subject}_labels.parquet")
        for kind in files:
            files[kind].append(root / f"sub-{subject}_{'bold.npy' if kind == 'series' else kind + '.parquet'}")
    widths, T = tiny.video_llama.q_former, tiny.stimuli.n_frames
    # One vector per clip for all its tokens: the Q-Former, which averages, must be able to tell clips apart.
    features = np.repeat(rng.normal(size=(len(clips), 1, widths.hidden_size)), T * widths.n_queries, axis=1).astype(np.float16)
    save_array(root / "train-000_features.npy", features, clips=clips)
    rows = [{"subject": s, "trial": t, "text": f"A {t}."} for s in ("01", "02") for t in range(TRIALS)]
    pd.DataFrame(rows).to_parquet(root / "train-000_captions.parquet")
    return SimpleNamespace(root=root, features=[root / "train-000_features.npy"], captions=[root / "train-000_captions.parquet"], **files)


@pytest.fixture(scope="module")
def pretrained(tiny: Config, data: SimpleNamespace) -> Path:
    weights = data.root / "sc_mbm.safetensors"
    pretrain_sc_mbm(
        tiny, "had", series=data.series[:2], trials=data.trials[:2], weights=weights, curve=data.root / "c.csv", work_dir=data.root / "w0"
    )
    return weights


def stage1_inputs(data: SimpleNamespace, pretrained: Path) -> dict[str, object]:
    return {
        "series": data.series[:2],
        "trials": data.trials[:2],
        "labels": data.labels[:2],
        "features": data.features,
        "sc_mbm": pretrained,
    }


@pytest.fixture(scope="module")
def trained(tiny: Config, data: SimpleNamespace, pretrained: Path) -> Path:
    out = data.root / "stage1"
    train_stage1(tiny, "had", **stage1_inputs(data, pretrained), output_dir=out, work_dir=data.root / "w1")  # type: ignore[arg-type]
    return out


def test_stage1_learns_what_it_is_shown(trained: Path) -> None:
    curve = pd.read_csv(trained / "curve.csv")
    assert curve["clip"].iloc[-1] < 0.5 * curve["clip"].iloc[0], "each of the few trials is told from the others"
    assert curve["reconstruction"].iloc[-1] < curve["reconstruction"].iloc[0]
    assert (curve["temperature"] != curve["temperature"].iloc[0]).any()


def die_after_first_checkpoint(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the next training be killed once it has saved; returns the numbers of the checkpoints, as they come."""
    save, numbers = Checkpoints.save, []

    def save_then_die(self: Checkpoints, number: int, *rest: object) -> None:
        save(self, number, *rest)  # type: ignore[arg-type]
        numbers.append(number)
        if len(numbers) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_then_die)
    return numbers


def test_a_killed_stage1_goes_on_to_the_same_weights(
    tiny: Config,
    data: SimpleNamespace,
    pretrained: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    epochs = die_after_first_checkpoint(monkeypatch)
    arguments = {**stage1_inputs(data, pretrained), "output_dir": tmp_path / "out", "work_dir": tmp_path / "work"}
    with pytest.raises(KeyboardInterrupt):
        train_stage1(tiny, "had", **arguments)  # type: ignore[arg-type]
    train_stage1(tiny, "had", **arguments)  # type: ignore[arg-type]
    assert epochs == list(range(1, 9)), "epoch 1 is not trained again"
    for name in ("fmri_encoder.safetensors", "adaptors/adapter_model.safetensors"):
        uninterrupted, resumed = load_file(trained / name), load_file(tmp_path / "out" / name)
        assert all(torch.equal(uninterrupted[k], resumed[k]) for k in uninterrupted), name


def test_a_trial_without_label_is_not_passed_over(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    fewer = tmp_path / "labels.parquet"
    pd.read_parquet(data.labels[0]).iloc[1:].to_parquet(fewer)
    with pytest.raises(UserError, match=r"found 23 labels for 24 trials"):
        source_trials(tiny, "had", data.trials[:2], [fewer, data.labels[1]])


def test_stage1_refuses_a_target_subject(tiny: Config, data: SimpleNamespace, pretrained: Path, tmp_path: Path) -> None:
    leaking = {**stage1_inputs(data, pretrained), "series": data.series, "trials": data.trials, "labels": data.labels}
    with pytest.raises(UserError, match=r"trials of had: subject: found 03, expected source subjects only"):
        train_stage1(tiny, "had", **leaking, output_dir=tmp_path, work_dir=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="found 03"):
        pretrain_sc_mbm(
            tiny, "had", series=data.series, trials=data.trials, weights=tmp_path / "w", curve=tmp_path / "c", work_dir=tmp_path
        )


def stage2_inputs(data: SimpleNamespace, trained: Path, models_dir: Path) -> dict[str, object]:
    return {
        "series": data.series[:2],
        "trials": data.trials[:2],
        "labels": data.labels[:2],
        "captions": data.captions,
        "target_series": data.series[2:],
        "target_trials": data.trials[2:],
        "stage1_dir": trained,
        "models_dir": models_dir,
    }


def test_stage2_refuses_captions_and_labels_of_a_target_subject(
    tiny: Config,
    data: SimpleNamespace,
    trained: Path,
    tmp_path: Path,
) -> None:
    leak = tmp_path / "captions.parquet"
    pd.concat([pd.read_parquet(data.captions[0]), pd.DataFrame({"subject": ["03"], "trial": [0], "text": ["seen"]})]).to_parquet(leak)
    no_models = tmp_path / "refused before any model is loaded"
    inputs = {**stage2_inputs(data, trained, no_models), "output_dir": tmp_path, "work_dir": tmp_path}
    with pytest.raises(UserError, match=r"captions of had: subject: found 03"):
        train_stage2(tiny, "had", **{**inputs, "captions": [leak]})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"found 03"):
        train_stage2(tiny, "had", **{**inputs, "trials": data.trials, "labels": data.labels})  # type: ignore[arg-type]
    labelled = tmp_path / "labelled.parquet"
    pd.read_parquet(data.trials[2]).assign(action="a").to_parquet(labelled)
    with pytest.raises(UserError, match=r"columns: found action, expected none"):
        adaptation_trials([labelled])


def test_stage2_adapts_on_adaptation_trials_only(data: SimpleNamespace) -> None:
    table = adaptation_trials(data.trials[2:])
    assert len(table) == TRIALS // 2 and set(table["role"]) == {"adapt"}
    with pytest.raises(UserError, match="found no trial with 'adapt'"):
        adaptation_trials(data.trials[:1])


@pytest.mark.slow
def test_stage2_trains_the_bridge_and_decoding_ends_in_text(
    tiny: Config,
    data: SimpleNamespace,
    trained: Path,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    inputs = stage2_inputs(data, trained, models_dir)
    train_stage2(tiny, "had", **inputs, output_dir=tmp_path / "s2", work_dir=tmp_path / "w")  # type: ignore[arg-type]
    monkeypatch.setattr(stage2, "STEPS_PER_CHECKPOINT", 1)
    steps = die_after_first_checkpoint(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_stage2(tiny, "had", **inputs, output_dir=tmp_path / "again", work_dir=tmp_path / "w2")  # type: ignore[arg-type]
    train_stage2(tiny, "had", **inputs, output_dir=tmp_path / "again", work_dir=tmp_path / "w2")  # type: ignore[arg-type]
    assert steps == [1, 2], "step 1 is not trained again"
    for name in ("bridge.safetensors", "curve.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "s2" / name).read_bytes(), "a killed Stage II goes on bit by bit"
    curve = pd.read_csv(tmp_path / "s2" / "curve.csv")
    assert len(curve) == 2 and np.isfinite(curve.to_numpy()).all()
    expected = 0.95 * curve["cross_entropy"] + 0.05 * (curve["class"] + curve["neighbourhood"] + curve["entropy"])
    np.testing.assert_allclose(curve["loss"], expected, rtol=1e-4)
    short = tiny.model_copy(update={"decoding": tiny.decoding.model_copy(update={"max_new_tokens": 4})})
    texts = {}
    for condition in ("model", "llm"):
        out = tmp_path / f"{condition}.parquet"
        decoding.decode(
            short,
            "had",
            "03",
            condition,
            series=data.series[2],
            trials=data.trials[2],
            stage1_dir=trained,
            stage2_dir=tmp_path / "s2",
            models_dir=models_dir,
            output=out,
        )
        table = pd.read_parquet(out)
        assert list(table.columns) == ["subject", "trial", "instruction", "prediction"] and len(table) == TRIALS // 2
        texts[condition] = table["prediction"]
    assert texts["llm"].nunique() == 1, "without brain, the same question has one answer"


def test_decoding_refuses_an_unknown_condition_and_too_few_trials(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    one = tmp_path / "trials.parquet"
    pd.read_parquet(data.trials[2]).iloc[:2].to_parquet(one)  # one adaptation trial, one test trial
    for condition, complaint in (("oracle", "found 'oracle', expected one of"), ("shuffled", "found 1 trials with 'test' of sub-03")):
        with pytest.raises(UserError, match=complaint):
            decoding.decode(
                tiny, "had", "03", condition, series=data.series[2], trials=one, stage1_dir=tmp_path, stage2_dir=tmp_path,
                models_dir=tmp_path, output=tmp_path / "out.parquet",
            )  # fmt: skip


def test_controls_are_what_they_say() -> None:
    for n in (2, 3, 48):
        order = derangement(n, np.random.default_rng(n))
        assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()
    torch.manual_seed(0)
    bold = 3 + 2 * torch.randn(400, 1, 1, 1, 1) + torch.randn(400, 2, 3, 3, 3)  # neighbours correlate by 0.8, as BOLD's do
    noise = matched_noise(bold, 1)
    torch.testing.assert_close(noise.mean(0), bold.mean(0), atol=0.5, rtol=0)
    torch.testing.assert_close(noise.std(0), bold.std(0), atol=0.4, rtol=0)
    torch.testing.assert_close(torch.corrcoef(noise.flatten(1).T), torch.corrcoef(bold.flatten(1).T), atol=0.1, rtol=0)
    correlation = np.corrcoef(noise.flatten(1)[0].numpy(), (bold - bold.mean(0)).flatten(1)[0].numpy())[0, 1]
    assert abs(correlation) < 0.5
    assert torch.equal(noise, matched_noise(bold, 1)) and not torch.equal(noise, matched_noise(bold, 2))


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
    with pytest.raises(UserError, match=r"found no features of 1 clip\(s\) \(other\.mp4\)"):
        stage1.video_tokens(tiny, data.features, ["clip-00.mp4", "other.mp4"])


def test_held_out_clips_are_trained_on_in_no_subject() -> None:
    clips = pd.Series([f"{i % 20}.mp4" for i in range(60)])
    held_out, training = _split(clips, 0.1, np.random.default_rng(0))
    assert len(held_out) == 2 * 3 and sorted([*held_out, *training]) == list(range(60))
    assert not set(clips[held_out]) & set(clips[training])


def test_of_epochs_that_retrieve_alike_the_better_reconstruction_wins() -> None:
    rows = [{"held_out_rank": r, "held_out_reconstruction": d} for r, d in ((0.9, 0.1), (0.97, 0.3), (0.97, 0.2), (0.97, 0.25))]
    assert max(rows, key=_quality) == rows[2]
