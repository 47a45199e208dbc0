"""The noise ceiling: known reliabilities are found, and where nothing repeats it is said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from boldscribe.evaluation.reliability import ACROSS, NO_REPEATS, WITHIN, compare, write_reliability
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array

CLIPS, VOXELS = 40, 300


def write_subject(folder: Path, subject: str, patterns_CV: NDArray[np.float64], clips: list[str], voxels: NDArray[np.int32]) -> None:
    """A subject who saw `clips` in this order, with windows of two volumes whose mean is the clip's row of patterns."""
    wiggle = np.tile([[0.3], [-0.3]], (len(clips), 1))
    series = np.repeat(patterns_CV, 2, axis=0) + wiggle
    save_array(folder / f"sub-{subject}_bold.npy", series.astype(np.float32), subject=subject)
    save_array(folder / f"sub-{subject}_voxels.npy", voxels)
    trials = pd.DataFrame({"subject": subject, "trial": range(len(clips))})
    trials.assign(first_volume=trials["trial"] * 2, n_volumes=2, role="train").to_parquet(folder / f"sub-{subject}_trials.parquet")
    trials.assign(stim_file=clips, action="", source="").to_parquet(folder / f"sub-{subject}_labels.parquet")


def measured(folder: Path) -> pd.DataFrame:
    found = {kind: sorted(folder.glob(f"*_{kind}.*")) for kind in ("bold", "trials", "labels")}
    series = [p for p in found["bold"] if p.suffix == ".npy"]
    write_reliability("test", series=series, trials=found["trials"], labels=found["labels"], output=folder / "reliability.csv")
    return pd.read_csv(folder / "reliability.csv", dtype={"subject": str})


def test_reliability_of_repeats_is_that_of_their_noise(tmp_path: Path) -> None:
    """Four repeats with noise of the signal's variance: halves correlate by 2/3, all four are reliable by 4/5."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(CLIPS, 3000))
    names = [f"c{i}" for i in range(CLIPS)]
    clips = [name for _ in range(4) for name in names]
    shown = np.concatenate([signal] * 4) + rng.normal(size=(4 * CLIPS, 3000))
    order = rng.permutation(len(clips))
    write_subject(tmp_path, "01", shown[order], [clips[i] for i in order], np.arange(3000, dtype=np.int32))
    (row,) = measured(tmp_path).to_dict("records")
    assert (row["comparison"], row["stimuli"], row["repeats"], row["voxels"]) == (WITHIN, CLIPS, 4, 3000)
    assert row["median"] == pytest.approx(2 / 3, abs=0.02)
    assert row["spearman_brown_median"] == pytest.approx(4 / 5, abs=0.02)
    assert row["reliable_voxels"] > 0.95
    assert row["identification"] == 100


def test_other_subjects_are_compared_on_common_voxels_and_clips(tmp_path: Path) -> None:
    """Equal to numpy's correlation with the mean of the others, voxel by voxel, whatever the order of presentation."""
    rng = np.random.default_rng(2)
    names = [f"c{i:02d}" for i in range(CLIPS)]
    signal = rng.normal(size=(CLIPS, VOXELS))
    own = {}
    for s in range(3):
        voxels = np.arange(s, VOXELS, dtype=np.int32)  # the masks differ
        own[s] = signal + rng.normal(size=signal.shape)
        order = rng.permutation(CLIPS)
        write_subject(tmp_path, f"0{s}", own[s][order][:, s:], [names[i] for i in order], voxels)
    table = measured(tmp_path)
    assert table["comparison"].eq(ACROSS).all() and table["voxels"].eq(VOXELS - 2).all()
    for s, row in enumerate(table.to_dict("records")):
        others = np.mean([own[o] for o in range(3) if o != s], axis=0)
        expected = [np.corrcoef(own[s][:, v], others[:, v])[0, 1] for v in range(2, VOXELS)]
        np.testing.assert_allclose([row["median"], row["p95"]], np.quantile(expected, [0.5, 0.95]), atol=1e-4)
    assert table["spearman_brown_median"].isna().all()


def test_noise_has_no_ceiling_above_chance() -> None:
    """Of unrelated patterns no voxel is reliable, and a clip is found as by chance."""
    rng = np.random.default_rng(3)
    pairs = [compare(*rng.normal(size=(2, CLIPS, VOXELS)).astype(np.float32), lengthened=True) for _ in range(200)]
    table = pd.DataFrame(pairs)
    assert table["reliable_voxels"].mean() < 0.01
    assert table["identification"].mean() == pytest.approx(100 / CLIPS, abs=0.7)
    assert table["identification_2way"].mean() == pytest.approx(50, abs=1)


def test_says_that_nothing_repeats(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for s in range(2):
        names = [f"s{s}c{i}" for i in range(CLIPS)]
        write_subject(tmp_path, f"0{s}", rng.normal(size=(CLIPS, 9)), names, np.arange(9, dtype=np.int32))
    (row,) = measured(tmp_path).to_dict("records")
    assert (row["comparison"], row["note"]) == ("none", NO_REPEATS)


def test_refuses_files_of_different_subjects(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for s in range(2):
        write_subject(tmp_path, f"0{s}", rng.normal(size=(4, 9)), list("abcd"), np.arange(9, dtype=np.int32))
    (tmp_path / "sub-01_labels.parquet").unlink()
    (tmp_path / "sub-00_labels.parquet").rename(tmp_path / "sub-01_labels.parquet")
    (tmp_path / "sub-00_trials.parquet").rename(tmp_path / "sub-00_old.parquet")
    (tmp_path / "sub-00_bold.npy").unlink()
    with pytest.raises(UserError, match="expected one subject with a label for each trial"):
        measured(tmp_path)
