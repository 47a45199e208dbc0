"""Ridge regression from BOLD to video tokens: the regression that it says it is, and a planted linear map is found."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from boldscribe.config import Config
from boldscribe.decoding import ridge
from boldscribe.decoding.task import Task
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from tests.control_data import trials_of

GRID, VOLUMES = (4, 4, 4), 3


def write_series(folder: Path, subject: str, bold_TV: np.ndarray, voxels: np.ndarray, grid: tuple[int, ...] = GRID) -> Path:
    """A series as file."""
    path = folder / f"sub-{subject}_bold.npy"
    save_array(path, bold_TV.astype(np.float16), subject=subject, grid_shape=list(grid), affine=np.eye(4).tolist())
    np.save(folder / f"sub-{subject}_voxels.npy", voxels.astype(np.int32))
    return path


@pytest.fixture
def planted(tmp_path: Path) -> SimpleNamespace:
    """Windows of three subjects who share voxels 10 to 49, and outputs that are linear in these alone."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(VOLUMES * 40, 6))
    series, tables, windows = [], [], []
    for subject, role, voxels in (("01", "train", np.arange(50)), ("02", "train", rng.permutation(np.arange(10, 64))),
                                  ("03", "test", np.arange(5, 50))):  # fmt: skip
        table = trials_of(subject, {"01": role}, 100)
        bold_TV = rng.normal(size=(3 * len(table), len(voxels))).astype(np.float16) * np.float16(float(subject)) + np.float16(7)
        series.append(write_series(tmp_path, subject, bold_TV, voxels))
        common = bold_TV[:, [list(voxels).index(v) for v in range(10, 50)]].astype(np.float64)
        window_NF = common[table["first_volume"].to_numpy()[:, None] + np.arange(VOLUMES)].reshape(len(table), -1)
        windows.append((window_NF - window_NF.mean(0)) / window_NF.std(0))
        tables.append(table)
    trials, x_NF = pd.concat(tables, ignore_index=True), np.concatenate(windows)
    return SimpleNamespace(series=series, trials=trials, x_NF=x_NF, y_NF=3 + x_NF @ weights + 0.1 * rng.normal(size=(300, 6)))


def test_the_gram_matrix_is_that_of_z_scored_windows_of_common_voxels(planted: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = planted.x_NF @ planted.x_NF.T / planted.x_NF.shape[1]
    for size in (7, 2000):
        monkeypatch.setattr(ridge, "VOXELS", size)
        np.testing.assert_allclose(ridge.gram_matrix(planted.series, planted.trials), expected, atol=1e-5)


def test_a_planted_linear_map_is_recovered_as_by_regression_in_its_primal_form(planted: SimpleNamespace) -> None:
    gram_NN = ridge.gram_matrix(planted.series, planted.trials)
    source = planted.trials[:200]
    y = planted.y_NF[:200]
    predicted = ridge.predict(gram_NN[:200, :200], gram_NN[200:, :200], y, y[:, :2], ridge.folds_of(source))
    assert min(np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, planted.y_NF[200:].T, strict=True)) > 0.95
    alphas = ridge.ALPHAS * planted.x_NF.shape[1] * np.diag(gram_NN[:200, :200]).mean()
    primal = [Ridge(alpha=a, fit_intercept=False).fit(planted.x_NF[:200], y - y.mean(0)).predict(planted.x_NF[200:]) for a in alphas]
    assert min(np.abs(p + y.mean(0) - predicted).max() for p in primal) < 1e-3


def test_alpha_is_chosen_on_left_out_subjects() -> None:
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(40, 300)), 2, axis=0)  # each window twice, in one subject: what is learnt there holds there alone
    y = np.repeat(rng.normal(size=(40, 4)), 2, axis=0)
    gram_NN = x @ x.T / 300
    within, across = (ridge.predict(gram_NN, gram_NN, y, y, groups) for groups in (np.arange(80) % 2, np.arange(80) // 40))
    assert np.abs(within - y).max() < 0.1 and (across.std(0) < 0.3 * y.std(0)).all()
    table = pd.DataFrame({"subject": ["01"] * 4, "run": ["01", "01", "02", "02"]})
    assert ridge.folds_of(table).tolist() == [0, 0, 1, 1]


def test_shrunken_predictions_get_the_moments_of_the_outputs() -> None:
    rng = np.random.default_rng(2)
    y, shrunken = rng.normal(3, 2, (50, 4)).astype(np.float32), 0.1 * rng.normal(size=(20, 4))
    shrunken[:, 3] = 1
    restored = ridge.with_moments_of(y, shrunken)
    np.testing.assert_allclose(restored.mean(0), y.mean(0), rtol=1e-5)
    np.testing.assert_allclose(restored[:, :3].std(0), y[:, :3].std(0), rtol=1e-5)
    np.testing.assert_allclose(np.corrcoef(restored[:, 0], shrunken[:, 0])[0, 1], 1)
    assert (restored[:, 3] == y[:, 3].mean()).all(), "a feature that says nothing is the mean"


def test_series_in_different_grids_or_places_are_refused(planted: SimpleNamespace, tmp_path: Path) -> None:
    other = write_series(tmp_path, "04", np.zeros((9, 2)), np.arange(2), (5, 4, 4))
    with pytest.raises(UserError, match="affine or grid_shape differs"):
        ridge.common_voxels([*planted.series, other])
    apart = write_series(tmp_path, "04", np.zeros((9, 2)), np.array([62, 63]))
    with pytest.raises(UserError, match="found no voxel common to all subjects"):
        ridge.common_voxels([planted.series[0], apart])


def test_predicted_tokens_have_the_form_and_moments_of_video_tokens(
    tiny: Config, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "series": data.series[2:], "source_series": data.series[:2], "source_trials": data.trials[:2],
        "source_labels": data.labels[:2], "source_features": data.features,
    }  # fmt: skip
    given: list[np.ndarray] = []
    monkeypatch.setattr(ridge, "generate", lambda _, z_NLD: given.append(z_NLD) or ["text"] * len(z_NLD))
    assert ridge.linear(Task(tiny, "had", "ridge", data.trials[2:], files)) == ["text"] * 6
    widths = tiny.video_llama.q_former
    assert given[0].shape == (6, widths.n_queries, widths.hidden_size) and given[0].dtype == np.float32
    clips = [clip for path in data.labels[:2] for clip in pd.read_parquet(path)["stim_file"]]
    from boldscribe.stimuli.features import video_tokens

    x_NLD = video_tokens(tiny, data.features, clips, ridge.best_device()).cpu().numpy()
    np.testing.assert_allclose(given[0].mean(0), x_NLD.mean(0), atol=1e-3)
