"""Noise in place of BOLD has the moments of the subject's windows, and nothing of any trial."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.data import noise
from boldscribe.data.windows import Windows
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from tests.control_data import trials_of, write


def test_noise_has_the_mean_and_covariance_of_the_windows() -> None:
    rng = np.random.default_rng(0)
    bold_ND = (3 + 2 * rng.normal(size=(400, 1)) + rng.normal(size=(400, 54))).astype(np.float32)  # features correlate by 0.8, as BOLD's do
    drawn = noise.matched_noise(bold_ND, noise.mixing(400, np.random.default_rng(1)))
    np.testing.assert_allclose(drawn.mean(0), bold_ND.mean(0), atol=0.5)
    np.testing.assert_allclose(drawn.std(0), bold_ND.std(0), atol=0.4)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(bold_ND.T), atol=0.1)
    assert abs(np.corrcoef(drawn[0], bold_ND[0] - bold_ND.mean(0))[0, 1]) < 0.5


def test_a_series_of_noise_is_read_as_any_other_and_keeps_roles_apart(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    table = trials_of("03", {"01": "adapt", "02": "test"}, 30).drop(columns="instruction")
    bold_TV = rng.normal(size=(3 * len(table), 64)).astype(np.float16)
    bold_TV[90:] += np.float16(10)  # the test run's
    save_array(tmp_path / "sub-03_bold.npy", bold_TV, subject="03", grid_shape=[4, 4, 4], affine=np.eye(4).tolist())
    np.save(tmp_path / "sub-03_voxels.npy", np.arange(64, dtype=np.int32))
    trials = write(tmp_path, "trials", table)
    written = []
    for columns in (20_000, 7):
        monkeypatch.setattr(noise, "COLUMNS", columns)
        out, index = tmp_path / f"{columns}" / "sub-03_bold.npy", tmp_path / f"{columns}.parquet"
        noise.write_noise_series(
            tiny, "had", "03", series=tmp_path / "sub-03_bold.npy", trials=trials, noise=out, noise_trials=index
        )  # fmt: skip
        written.append(Windows([out], pd.read_parquet(index), (4, 4, 4)).load(range(len(table))).flatten(1).numpy())
    np.testing.assert_allclose(written[0], written[1], atol=0.02)
    of_test = (table["role"] == "test").to_numpy()
    assert abs(written[0][~of_test].mean()) < 0.2 and abs(written[0][of_test].mean() - 10) < 0.2
    table.loc[1:29, "role"] = "train"
    with pytest.raises(UserError, match="found 1 trial with 'adapt' for sub-03"):
        noise.write_noise_series(
            tiny, "had", "03", series=tmp_path / "sub-03_bold.npy", trials=write(tmp_path, "one", table),
            noise=out, noise_trials=index,
        )  # fmt: skip
