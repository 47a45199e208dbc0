"""Pretraining on further data and from published blocks: right volumes, right people, right weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from boldscribe.config import Config, check_experiment
from boldscribe.data.batches import Batches
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from boldscribe.models.asset_folders import provide
from boldscribe.models.fmri_encoder import new_encoder
from boldscribe.models.sc_mbm import ScMbm
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.pretraining_data import pretraining_windows, run_windows


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    raw = config.model_dump(by_alias=True)
    for name, values in sections.items():
        raw[name].update(values)
    return Config.model_validate(raw)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A resting-state series at HCP's TR, of a person who has a target subject's label, with fewer voxels than the others."""
    path = tmp_path_factory.mktemp("rest") / "sub-03_bold.npy"
    run = {"run": "01", "first_volume": 0, "n_volumes": 60, "repetition_time": 0.72, "start_time": 0.0}
    bold = np.random.default_rng(1).normal(size=(60, 300)).astype(np.float16)
    header = {"dataset": "hcp", "subject": "03", "grid_shape": [8, 8, 8], "affine": np.eye(4).tolist(), "runs": [run]}
    save_array(path, bold, **header)
    np.save(path.with_name("sub-03_voxels.npy"), np.arange(100, 400, dtype=np.int32))
    return path


@pytest.fixture(scope="module")
def further(tiny: Config) -> Config:
    """The tiny experiment, with resting-state data to pretrain on too."""
    return changed(tiny, pretraining={"hcp": {"derivatives_dir": "hcp", "subjects": ["03"]}})


def test_windows_lie_side_by_side_in_every_run_of_every_subject(further: Config, data: SimpleNamespace, rest: Path) -> None:
    windows = pretraining_windows(further, "had", data.series[:2], [rest])
    assert {str(name): list(rows) for name, rows in windows.trials.groupby("subject", observed=True)["first_volume"]} == {
        "had/01": list(range(0, 36, 3)),
        "had/02": list(range(0, 36, 3)),
        "hcp/03": list(range(0, 60, 3)),
    }
    bold = np.load(rest).astype(np.float32)
    np.testing.assert_array_equal(windows.load([25])[0].flatten(1)[:, windows.series["hcp/03"].place], bold[3:6])
    runs = [{"first_volume": first, "n_volumes": n} for first, n in ((0, 7), (7, 2), (9, 6))]
    assert [list(run_windows("x", run, 3)["first_volume"]) for run in runs] == [[0, 3], [], [9, 12]], "no window spans two runs"


def test_series_held_on_a_device_give_the_windows_of_the_files(further: Config, data: SimpleNamespace, rest: Path) -> None:
    windows = pretraining_windows(further, "had", data.series[:2], [rest])
    batches = Batches(windows, torch.device("cpu"))
    rows = torch.arange(0, len(windows), 2)
    from_files = batches.load(rows)
    batches.resident = batches.hold()
    torch.testing.assert_close(batches.load(rows), from_files)
    batches.resident = None
    batches.expect(rows)
    assert torch.equal(batches.load(rows), from_files)


def test_further_data_are_trained_on_and_stage1_takes_the_weights(
    further: Config, data: SimpleNamespace, pretrained: Path, rest: Path, tmp_path: Path
) -> None:
    out = {"weights": tmp_path / "sc_mbm.safetensors", "curve": tmp_path / "curve.parquet", "work_dir": tmp_path / "w"}
    pretrain_sc_mbm(further, "had", series=data.series[:2], trials=data.trials[:2], further=[rest], **out)
    assert np.isfinite(pd.read_parquet(out["curve"])["loss"]).all()
    with_further, without = load_file(out["weights"]), load_file(pretrained)
    assert with_further.keys() == without.keys() and not torch.equal(with_further["sc_mbm.norm.bias"], without["sc_mbm.norm.bias"])
    new_encoder(further, out["weights"])


def test_who_is_not_named_for_pretraining_is_refused(tiny: Config, further: Config, data: SimpleNamespace, rest: Path) -> None:
    with pytest.raises(UserError, match="found hcp sub-03, expected one configured for pretraining"):
        pretraining_windows(tiny, "had", data.series[:2], [rest])
    with pytest.raises(UserError, match="found had sub-03"):
        pretraining_windows(further, "had", data.series, [rest])


def test_target_subjects_do_not_hide_where_their_data_lie(tiny: Config, tmp_path: Path) -> None:
    ready, linked, made = tmp_path / "ready", tmp_path / "linked", tmp_path / "results" / "derivatives" / "had"
    for folder in (ready / "sub-03", ready / "sub-07", ready / "fmriprep" / "sub-03", made / "sub-03", made / "sub-01", linked):
        folder.mkdir(parents=True)
    (linked / "sub-99").symlink_to(ready / "sub-03")
    had = tiny.datasets["had"].model_copy(update={"derivatives_dir": str(ready), "simulated": None})
    target = "found 03, target subjects of had"
    for folder, subjects, complaint in (
        (ready, ["03", "07"], target),
        (ready / "fmriprep", ["03"], target),
        (made, ["03", "01"], target),
        (linked, ["99"], "found 99, target subjects of had"),
        (ready, ["07", "08"], "found no folder for 08"),
        (ready, ["07"], None),
        (made, ["01"], None),
    ):
        extra = {"more": {"derivatives_dir": str(folder), "subjects": subjects}}
        changes = {
            "pretraining": extra,
            "datasets": {"had": had.model_dump(), "urgen": {}},
            "paths": {"results": str(tmp_path / "results")},
        }
        with pytest.raises(UserError) as refusal:  # of urgen, which has no subjects, in any case
            check_experiment(Config.model_validate(tiny.model_dump(by_alias=True) | changes))
        assert complaint in str(refusal.value) if complaint else "pretraining" not in str(refusal.value)


def test_two_sets_of_people_are_learnt_from(further: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    """BOLD that can be restored, since neighbours go together; the sets' brains differ in size."""
    rng, paths = np.random.default_rng(5), []
    for name, dataset, subject, voxels in (("a", "had", "01", np.arange(512)), ("b", "hcp", "03", np.arange(64, 448))):
        signal_TV = rng.normal(size=(96, 1)) * np.sign(rng.normal(size=(1, 512)) + 1.5)[:, voxels] + 0.2 * rng.normal(
            size=(96, len(voxels))
        )
        paths.append(tmp_path / name / f"sub-{subject}_bold.npy")
        paths[-1].parent.mkdir()
        run = {"run": "01", "first_volume": 0, "n_volumes": 96, "repetition_time": 2.0, "start_time": 0.0}
        header = {"dataset": dataset, "subject": subject, "grid_shape": [8, 8, 8], "affine": np.eye(4).tolist(), "runs": [run]}
        save_array(paths[-1], signal_TV.astype(np.float16), **header)
        np.save(paths[-1].with_name(f"sub-{subject}_voxels.npy"), voxels.astype(np.int32))
    config = changed(
        further,
        tokenizer={"grid": [8, 8, 8], "channels": [16, 32]},
        sc_mbm={"epochs": 14, "warmup_epochs": 2, "batch_size": 16, "learning_rate": 3e-3},
    )
    out = {"weights": tmp_path / "sc_mbm.safetensors", "curve": tmp_path / "curve.parquet", "work_dir": tmp_path / "w"}
    pretrain_sc_mbm(config, "had", series=paths[:1], trials=data.trials[:1], further=paths[1:], **out)
    loss = pd.read_parquet(out["curve"])["loss"]
    assert loss[-3:].mean() < 0.5 * loss[:3].mean()
    encoder, weights = new_encoder(config, out["weights"]).get_base_model(), load_file(out["weights"])
    assert torch.equal(encoder.tokenizer.positions, weights["tokenizer.positions"])
    assert torch.equal(encoder.sc_mbm.blocks[0].norm1.weight, weights["sc_mbm.blocks.0.norm1.weight"])


@pytest.mark.parametrize("epochs", [0, 1])
def test_blocks_start_from_a_checkpoint(epochs: int, tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = {f"sc_mbm.{k}": v for k, v in ScMbm(tiny.sc_mbm).state_dict().items()}
    save_file(published, tmp_path / "published.safetensors")
    config = changed(tiny, sc_mbm={"checkpoint": str(tmp_path / "published.safetensors"), "epochs": epochs, "warmup_epochs": 0})
    out = {"weights": tmp_path / "sc_mbm.safetensors", "curve": tmp_path / "curve.parquet", "work_dir": tmp_path / "w"}
    pretrain_sc_mbm(config, "had", series=data.series[:2], trials=data.trials[:2], **out)
    written = load_file(out["weights"])
    assert all(torch.equal(written[k], v) for k, v in published.items()) == (epochs == 0)
    assert len(pd.read_parquet(out["curve"])) == epochs and any(k.startswith("tokenizer.") for k in written)


def test_a_checkpoint_of_another_size_is_refused_before_and_in_training(tiny: Config, data: SimpleNamespace, tmp_path: Path) -> None:
    other = tiny.sc_mbm.model_copy(update={"depth": tiny.sc_mbm.depth + 1, "mlp_ratio": 4.0})
    save_file({f"sc_mbm.{k}": v for k, v in ScMbm(other).state_dict().items()}, tmp_path / "larger.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    right = {f"sc_mbm.{k}": v for k, v in ScMbm(tiny.sc_mbm).state_dict().items()}
    save_file({k: v for k, v in right.items() if "norm2" not in k}, tmp_path / "part.safetensors")
    out = {"weights": tmp_path / "w", "curve": tmp_path / "c", "work_dir": tmp_path}
    for name, complaint in (
        ("larger", r"(?s)sc_mbm\.depth: found 2, configured 1.*mlp_ratio: found 4, configured 1.*set sc_mbm\.dim: 128, sc_mbm\.depth: 2"),
        ("other", "found no tensors named sc_mbm"),
        ("part", r"missing \['blocks\.0\.norm2"),
    ):
        config = changed(tiny, sc_mbm={"checkpoint": str(tmp_path / f"{name}.safetensors")})
        with pytest.raises(UserError, match=complaint):
            pretrain_sc_mbm(config, "had", series=data.series[:2], trials=data.trials[:2], **out)
        if name != "part":
            with pytest.raises(UserError, match=complaint):
                provide(config, "sc_mbm", tmp_path / "models" / "sc_mbm")
