"""The map of information: closed form, a planted case with a known answer, where it lies in the template, and the step as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from boldscribe.config import Config
from boldscribe.data.windows import Series
from boldscribe.evaluation.information_map import agreement, expected_gradients, other_trials, targets, to_template, write_information_map
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array, save_array

RNG = np.random.default_rng
GRID = (2, 6, 6, 6)  # volumes and voxels


def reader(bold_NV: NDArray[np.float64]) -> Callable[[Tensor], Tensor]:
    """Windows of trials by index."""
    windows = torch.from_numpy(bold_NV).view(-1, *GRID)
    return lambda rows: windows[rows]


def test_shares_of_a_linear_encoder_are_weight_times_difference() -> None:
    rng = RNG(0)
    bold_NV, weights_VD = rng.normal(size=(2, 432)), rng.normal(size=(432, 4))
    target_ND = torch.from_numpy(rng.normal(size=(2, 4)))
    encode = lambda bold: bold.flatten(1) @ torch.from_numpy(weights_VD)  # noqa: E731
    share, match = expected_gradients(encode, reader(bold_NV), target_ND, np.array([[1] * 3, [0] * 3]), rng)
    expected_NV = (bold_NV - bold_NV[::-1]) * (target_ND.numpy() @ weights_VD.T)
    np.testing.assert_allclose(share, expected_NV.mean(0).reshape(2, -1).sum(0))
    assert share.sum() == pytest.approx(match)


@pytest.fixture(scope="module")
def planted() -> SimpleNamespace:
    """Test trials whose clips show in some voxels alone, and a decoder of all voxels that was trained on other trials.

    Like the tokenizer, the decoder normalises each window first.
    """
    rng, n, n_voxels, d = RNG(1), 200, 216, 8
    inside = np.zeros(n_voxels, bool)
    inside[rng.choice(n_voxels, 30, replace=False)] = True
    tuning = rng.normal(size=(d, n_voxels)) * inside
    clips_CD = rng.normal(size=(20, d))
    own = rng.integers(20, size=2 * n)
    bold_NV = np.concatenate([clips_CD[own] @ tuning + 2 * rng.normal(size=(2 * n, n_voxels)) for _ in range(2)], axis=1)
    unit_NV = bold_NV / np.linalg.norm(bold_NV, axis=1, keepdims=True)
    train_NV, train_ND = unit_NV[:n], clips_CD[own[:n]]
    weights = torch.from_numpy(np.linalg.solve(train_NV.T @ train_NV + 0.3 * np.eye(2 * n_voxels), train_NV.T @ train_ND))

    def encode(bold: Tensor) -> Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.normalize(bold.flatten(1), dim=1) @ weights, dim=1)

    test = SimpleNamespace(bold=bold_NV[n:], own=own[n:], load=reader(bold_NV[n:]))
    return SimpleNamespace(inside=inside, encode=encode, target=targets(torch.from_numpy(clips_CD)[:, None], test.own), **vars(test))


def test_the_map_finds_planted_voxels_and_sums_to_the_match(planted: SimpleNamespace) -> None:
    rng = RNG(2)
    others = other_trials(planted.own, 8, rng)
    assert (planted.own[others] != planted.own[:, None]).all()
    share, match = expected_gradients(planted.encode, planted.load, planted.target, others, rng)
    assert match > 0.3 and share.sum() == pytest.approx(match, rel=0.05)
    found = agreement(share, planted.inside)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(planted.inside, share)) and found["roc_auc"] > 0.95
    assert found["share_of_mass"] > 4 * found["share_of_voxels"], found


def test_gradient_times_input_would_sum_to_nothing(planted: SimpleNamespace) -> None:
    bold = torch.from_numpy(planted.bold).view(-1, *GRID).requires_grad_()
    match = (planted.encode(bold) * planted.target).sum(1)
    (gradient,) = torch.autograd.grad(match.sum(), bold)
    assert match.mean().item() > 0.3 and (gradient * bold).flatten(1).sum(1).abs().max().item() < 1e-9


def test_with_the_clips_shuffled_there_is_nothing_to_find(planted: SimpleNamespace) -> None:
    rng = RNG(3)
    order = rng.permutation(len(planted.own))
    others = other_trials(planted.own[order], 8, rng)
    share, match = expected_gradients(planted.encode, planted.load, planted.target[torch.from_numpy(order)], others, rng)
    assert abs(match) < 0.1 and abs(share.sum() - match) < 0.02
    assert 0.3 < agreement(share, planted.inside)["roc_auc"] < 0.7


def test_agreement_knows_when_it_cannot_say() -> None:
    assert agreement(np.arange(4.0), np.zeros(4, bool)) == {"share_of_mass": 0.0, "share_of_voxels": 0.0, "roc_auc": None}
    assert agreement(np.zeros(4), np.array([True, False, False, True])) == {"share_of_mass": None, "share_of_voxels": 0.5, "roc_auc": 0.5}


def test_shares_return_to_the_voxels_that_they_came_from(tmp_path: Path) -> None:
    voxels = np.array([3, 10, 20, 26], np.int32)
    np.save(tmp_path / "sub-01_voxels.npy", voxels)
    series = Series(tmp_path / "sub-01_bold.npy", (5, 4), np.array([7, 1, 4], np.int32), np.array([True, False, True, True]))
    map_V = np.zeros(27)
    assert to_template(np.arange(8.0), series, map_V).tolist() == [3, 20, 26]
    assert map_V[[3, 20, 26]].tolist() == [7, 1, 4] and np.count_nonzero(map_V) == 3


@pytest.fixture
def given(data: SimpleNamespace, trained: Path, tmp_path: Path) -> dict[str, Any]:
    """What the step is handed: the target subject's files, in a space of the template, some voxels outside the brain."""
    bold, header = load_array(data.series[2])
    series, voxels = tmp_path / "sub-03_bold.npy", np.arange(100, 400, dtype=np.int32)
    kept = {name: header[name] for name in ("subject", "grid_shape", "runs")}
    save_array(series, bold[:, voxels], **kept, affine=np.diag([6.0, 6.0, 6.0, 1.0]).tolist(), space="MNI152NLin2009aSym")
    np.save(tmp_path / "sub-03_voxels.npy", voxels)
    return {
        "series": [series],
        "trials": data.trials[2:],
        "labels": data.labels[2:],
        "features": data.features,
        "stage1_dir": trained,
        "image": tmp_path / "had_information.nii.gz",
        "about": tmp_path / "had_information.json",
    }


def test_the_step_writes_a_map_in_the_grid_of_the_series(tiny: Config, given: dict[str, Any]) -> None:
    write_information_map(tiny, "had", **given)
    image, about = nib.load(given["image"]), json.loads(given["about"].read_text())
    map_V = np.asarray(image.dataobj).ravel()
    assert image.shape == (8, 8, 8) and np.array_equal(image.affine, np.diag([6.0, 6.0, 6.0, 1.0]))
    assert np.count_nonzero(map_V[100:400]) > 290 and not map_V[:100].any() and not map_V[400:].any()
    assert about["subjects"]["03"]["trials"] == 6 and about["sum"] == pytest.approx(map_V.sum(), rel=1e-3) and about["simulated"]
    assert set(about["checks"]) == {"grey_matter", "planted_patches"} and 0 <= about["checks"]["grey_matter"]["roc_auc"] <= 1
    before = {name: given[name].read_bytes() for name in ("image", "about")}
    write_information_map(tiny, "had", **given)
    assert {name: given[name].read_bytes() for name in before} == before


def test_a_test_of_one_clip_is_refused(tiny: Config, given: dict[str, Any], tmp_path: Path) -> None:
    pd.read_parquet(given["labels"][0]).assign(stim_file="clip-00.mp4").to_parquet(tmp_path / "sub-03_labels.parquet")
    with pytest.raises(UserError, match=r"sub-03.*found 1 test clip, expected at least 2"):
        write_information_map(tiny, "had", **{**given, "labels": [tmp_path / "sub-03_labels.parquet"]})
    assert not given["image"].exists()
