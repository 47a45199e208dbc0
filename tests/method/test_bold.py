"""Cleaned series, trials and windows, on derivatives named as real fMRIPrep names them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from nilearn.signal import clean as nilearn_clean
from scipy import stats

from boldscribe.config import Config
from boldscribe.data.betas import separate_responses, trial_regressors
from boldscribe.data.checked import Checked
from boldscribe.data.images import save_image
from boldscribe.data.layout import entity_path
from boldscribe.data.placement import place_in_grid
from boldscribe.data.ready import check_pretraining_set, subject_manifest
from boldscribe.data.reasons import NO_ONSET
from boldscribe.data.series import clean, smooth, write_series
from boldscribe.data.time_steps import average, time_steps
from boldscribe.data.trials import write_trials
from boldscribe.data.windows import Windows
from boldscribe.machinery.errors import UserError
from tests.as_step import as_step

SPACE, TR, N_VOLUMES, SHAPE = "MNI152NLin2009cAsym", 2.0, 60, (7, 8, 6)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def experiment(root: Path, **bold: Any) -> Config:
    return Config.parse(
        {
            "datasets": {
                "had": {
                    "bids_dir": str(root / "raw"),
                    "session": "action01",
                    "train_subjects": ["01"],
                    "validation_subjects": ["02"],
                    "adaptation_runs": ["01"],
                    "test_runs": ["02"],
                }
            },
            "preprocessing": {"engine": "derivatives", "space": SPACE, "resolution": 2.0},
            "bold": bold,
            "tokenizer": {"grid": [16, 16, 16], "channels": [8]},
        }
    )


def fmriprep_run(root: Path, subject: str, run: str, rng: np.random.Generator, tr: float = TR) -> Path:
    """A run as fMRIPrep leaves it: session, run without padding, 200 confounds, n/a in the first rows."""

    def path(suffix: str, extension: str, **entities: str) -> Path:
        return (
            root
            / "derivatives"
            / entity_path(
                subject, session="action01", datatype="func", suffix=suffix, extension=extension, task="action", run=run, **entities
            )
        )

    drifts = {f"cosine{i:02d}": np.cos(np.pi * (i + 1) * (np.arange(N_VOLUMES) + 0.5) / N_VOLUMES) for i in range(2)}
    table = pd.DataFrame({name: rng.normal(size=N_VOLUMES) for name in [*MOTION, "csf", "white_matter", "global_signal", "rmsd"]} | drifts)
    for name in [*MOTION, "csf", "white_matter"]:
        table[f"{name}_derivative1"] = table[name].diff()
        table[f"{name}_power2"] = table[name] ** 2
        table[f"{name}_derivative1_power2"] = table[name].diff() ** 2
    table["framewise_displacement"] = np.r_[np.nan, rng.uniform(0, 0.3, N_VOLUMES - 1)]
    components = pd.DataFrame(rng.normal(size=(N_VOLUMES, 200))).add_prefix("t_comp_cor_")
    table = pd.concat([table, components], axis=1)
    confounds = path("timeseries", ".tsv", desc="confounds")
    confounds.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(confounds, sep="\t", index=False, na_rep="n/a")
    confounds.with_suffix(".json").write_text("{}")
    nuisance = table[[*MOTION, "csf", "white_matter"]].to_numpy() @ rng.normal(size=(8, int(np.prod(SHAPE)))) * 5
    bold = (1000 + nuisance + rng.normal(size=nuisance.shape)).T.reshape(*SHAPE, N_VOLUMES)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    mask[int(run), 1, 1] = 0
    standard = {"space": SPACE, "res": "2"}
    save_image(path("mask", ".nii.gz", desc="brain", **standard), mask, AFFINE, dtype="uint8")
    path("bold", ".json", desc="preproc", **standard).write_text(json.dumps({"RepetitionTime": tr, "StartTime": 0.9}))
    return save_image(path("bold", ".nii.gz", desc="preproc", **standard), bold, AFFINE, tr=tr)


def raw_events(root: Path, subject: str, run: str, onsets: list[float]) -> Path:
    path = (
        root / "raw" / entity_path(subject, session="action01", datatype="func", suffix="events", extension=".tsv", task="action", run=run)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{onset}\t2\taction{i % 3}\tclass/clip{run}{i}.mp4" for i, onset in enumerate(onsets)]
    path.write_text("\n".join(["onset\tduration\ttrial_type\tstim_file", *rows]) + "\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for subject in ("01", "02"):
        for run in ("1", "2"):
            fmriprep_run(tmp_path, subject, run, rng)
            raw_events(tmp_path, subject, run, [10.04, 14.0, 50.2, 113.0])
    return tmp_path


def series(root: Path, subject: str, config: Config | None = None) -> Path:
    output = root / f"bold/sub-{subject}_bold.npy"
    config = config or experiment(root)
    write_series(config, config.datasets["had"], "had", subject, root / "derivatives", output)
    return output


def checked(root: Path, **findings: Any) -> Path:
    path = root / "checked.json"
    path.write_text(json.dumps(Checked(**findings).as_report()))
    return path


def excluded(trials: Path) -> Path:
    return trials.with_name(trials.name.replace("_trials", "_excluded"))


def index(root: Path, subject: str, name: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    trials, labels = root / f"{subject}{name}_trials.parquet", root / f"{subject}{name}_labels.parquet"
    write_trials(
        experiment(root),
        "had",
        subject,
        series=root / f"bold/sub-{subject}_bold.npy",
        checked=checked(root),
        trials=trials,
        labels=labels,
        excluded=excluded(trials),
    )
    return pd.read_parquet(trials), pd.read_parquet(labels)


def preprocessed(root: Path, subject: str, run: str) -> Path:
    return next((root / "derivatives").rglob(f"sub-{subject}*run-{run}*desc-preproc_bold.nii.gz"))


@pytest.mark.parametrize("kind", ["basic", "full"])
def test_series_of_fmriprep_output(root: Path, kind: str) -> None:
    """Voxels, header and values, the latter against nilearn."""
    path = series(root, "01", experiment(root, motion=kind, tissue="basic"))
    bold_TV, voxels = np.load(path), np.load(path.with_name("sub-01_voxels.npy"))
    header = json.loads(path.with_suffix(".json").read_text())
    assert bold_TV.dtype == np.float16 and bold_TV.shape == (2 * N_VOLUMES, 5 * 6 * 4 - 2) == tuple(header["shape"])
    assert [r["run"] for r in header["runs"]] == ["01", "02"] and header["runs"][1]["first_volume"] == N_VOLUMES
    assert header["runs"][0]["start_time"] == 0.9 and header["grid_shape"] == list(SHAPE)
    displacement = np.load(path.with_name("sub-01_framewise_displacement.npy"))
    assert np.flatnonzero(np.isnan(displacement)).tolist() == [0, N_VOLUMES]

    bold = preprocessed(root, "01", "2")
    raw_TV = nib.load(bold).get_fdata().reshape(-1, N_VOLUMES)[voxels].T
    table = pd.read_csv(next(bold.parent.glob("*run-2*timeseries.tsv")), sep="\t", na_values="n/a")
    names = ["csf", "white_matter", "cosine00", "cosine01", *MOTION]
    if kind == "full":
        names += [f"{m}{s}" for m in MOTION for s in ("_derivative1", "_power2", "_derivative1_power2")]
    expected = nilearn_clean(raw_TV, confounds=table[names].bfill().to_numpy(), detrend=True, standardize="zscore_sample")
    expected *= np.sqrt(N_VOLUMES / (N_VOLUMES - 1))
    assert np.abs(bold_TV[N_VOLUMES:] - expected).max() < 0.02
    assert np.abs(bold_TV[N_VOLUMES:].astype(float).std(axis=0) - 1).max() < 2e-3


def test_a_fast_run_is_averaged_to_the_windows_time_step(tmp_path: Path) -> None:
    fast, n_steps = 0.72, 21  # 43.2 s hold 21 whole steps of 2 s
    for run in ("1", "2"):
        fmriprep_run(tmp_path, "01", run, np.random.default_rng(int(run)), fast)
    config = experiment(tmp_path)
    as_sampled, averaged = tmp_path / "a" / "sub-01_bold.npy", tmp_path / "b" / "sub-01_bold.npy"
    write_series(config, config.datasets["had"], "had", "01", tmp_path / "derivatives", as_sampled)
    write_series(config, config.datasets["had"], "had", "01", tmp_path / "derivatives", averaged, seconds_per_volume=2.0)
    header = json.loads(averaged.with_suffix(".json").read_text())
    assert [r["first_volume"] for r in header["runs"]] == [0, n_steps] and header["runs"][1]["repetition_time"] == 2.0
    times = fast * np.arange(N_VOLUMES)
    sampled_TV = np.load(as_sampled)[N_VOLUMES:].astype(float)
    means_SV = np.stack([sampled_TV[(times >= 2.0 * k) & (times < 2.0 * (k + 1))].mean(axis=0) for k in range(n_steps)])
    assert means_SV.std() < 0.75, "means of two or three volumes vary less than one volume"
    expected_SV = (means_SV - means_SV.mean(axis=0)) / means_SV.std(axis=0)
    index = pd.DataFrame({"subject": "01", "first_volume": [n_steps + 3], "n_volumes": 3})
    windows = Windows([averaged], index, (16, 16, 16))
    np.testing.assert_allclose(windows[0][0].flatten(1)[:, windows.series["01"].place], expected_SV[3:6], atol=5e-3)
    displacement = np.load(averaged.with_name("sub-01_framewise_displacement.npy"))
    assert displacement[1] == np.load(as_sampled.with_name("sub-01_framewise_displacement.npy"))[3:6].max()


def test_time_steps_are_whole_and_never_shorter_than_a_volume() -> None:
    assert [s.stop - s.start for s in time_steps(60, 0.72, 2.0)[:9]] == [3, 3, 3, 3, 2, 3, 3, 3, 2]
    assert [(s.start, s.stop) for s in time_steps(7, 0.72, 2.16)] == [(0, 3), (3, 6)], "2.16 / 0.72 is a little more than 3"
    assert time_steps(5, 3.0, 2.0) == time_steps(5, 3.0, None) == [slice(i, i + 1) for i in range(5)]
    steady = np.array([False] + [True] * 11)
    means = average(np.arange(12, dtype=np.float32)[:, None], steady, time_steps(12, 1.0, 3.0), 2.0)
    np.testing.assert_allclose(means[:, 0], [0, -(1.5**0.5), 0, 1.5**0.5], rtol=1e-6)


def test_cleaning() -> None:
    """Regressors leave nothing, constant voxels become 0, repeated and constant regressors do no harm, early volumes are left out."""
    rng = np.random.default_rng(3)
    confounds = rng.normal(size=(80, 3))
    data = (confounds @ rng.normal(size=(3, 50)) + rng.normal(size=(80, 50)) + 500).astype(np.float32)
    data[:, 7] = 321.0
    data[0] *= 100
    redundant = np.column_stack([confounds, confounds[:, :1] * 3, np.full(80, 0.1)])
    steady = np.arange(80) > 0
    out = clean(data, redundant, steady, 10.0)
    assert np.abs(confounds[1:].T @ out[1:]).max() < 1e-2 and not out[:, 7].any() and not out[0].any()
    assert np.allclose(out, clean(data, confounds, steady, 10.0), atol=1e-4)
    assert np.abs(clean(data, confounds, steady, 0.5)).max() == 0.5


def test_smoothing() -> None:
    """A constant stays itself up to the edge of the mask, and a point spreads to the asked width."""
    mask = np.zeros((21, 21, 21), bool)
    mask[2:-2, 2:-2, 2:-2] = True
    point = np.zeros(mask.shape, np.float32)
    point[10, 10, 10] = 1
    data = np.stack([np.full(mask.sum(), 7.0, np.float32), point[mask]])
    constant, spread = smooth(data, mask, np.diag([2.0, 2.0, 2.0, 1.0]), fwhm=8.0)
    line = np.zeros(mask.shape)
    line[mask] = spread
    assert np.allclose(constant, 7, atol=1e-4) and line[12, 10, 10] / line[10, 10, 10] == pytest.approx(0.5, rel=1e-3)


def test_windows_and_roles(root: Path) -> None:
    """First volume by hand: nearest to (onset + 4 - 0.9) / 2; the last trial has no whole window."""
    for subject in ("01", "02"):
        series(root, subject)
    source, labels = index(root, "01")
    assert source["first_volume"].tolist() == [7, 9, 27, 67, 69, 87] and source["trial"].tolist() == [0, 1, 2, 4, 5, 6]
    assert set(source["role"]) == {"train"} and source["dataset"].unique().tolist() == ["had"]
    assert labels["stim_file"].tolist()[3] == "class/clip20.mp4" and labels["action"].tolist()[:3] == ["action0", "action1", "action2"]
    assert not {"stim_file", "action"} & set(source.columns)
    target, _ = index(root, "02")
    assert target["role"].tolist() == ["adapt"] * 3 + ["test"] * 3
    assert set(target["instruction"]) <= set(experiment(root).video_llama.instructions)
    assert target["instruction"].tolist() != source["instruction"].tolist()
    assert (root / "01_trials.parquet").read_bytes() != (root / "02_trials.parquet").read_bytes()
    index(root, "01", "again")
    assert (root / "01_trials.parquet").read_bytes() == (root / "01again_trials.parquet").read_bytes()


def test_windows_hold_the_series(root: Path) -> None:
    """Each window is the series at its voxels, the middle of one grid on the middle of the other."""
    paths = [series(root, s) for s in ("01", "02")]
    trials = pd.concat([index(root, s)[0] for s in ("01", "02")])
    windows = Windows(paths, trials, (16, 4 + 4, 6))
    x_BTXYZ = windows.load([0, 9])
    assert x_BTXYZ.shape == (2, 3, 16, 8, 6) and x_BTXYZ.dtype == torch.float32 and len(windows) == 12
    image = np.zeros((3, *SHAPE), np.float32)
    first = int(trials["first_volume"].iloc[9])
    image.reshape(3, -1)[:, np.load(root / "bold/sub-02_voxels.npy")] = np.load(paths[1])[first : first + 3]
    assert np.array_equal(x_BTXYZ[1, :, 8 - 3 : 8 - 3 + 7].numpy(), image) and not x_BTXYZ[1, :, :5].any()
    item, i = windows[9]
    assert i == 9 and torch.equal(item, x_BTXYZ[1])
    assert (x_BTXYZ != 0).any(1).sum(dim=(1, 2, 3)).tolist() == [5 * 6 * 4 - 2] * len(x_BTXYZ)


def test_grid_keeps_the_middle() -> None:
    """97 x 115 x 97 onto 96 x 112 x 96: voxel (48, 57, 48) onto (48, 56, 48)."""
    shape, grid = (97, 115, 97), (96, 112, 96)
    voxels = np.array([np.ravel_multi_index((48, 57, 48), shape), np.ravel_multi_index((96, 0, 0), shape)], np.int32)
    place, inside = place_in_grid(voxels, shape, grid)
    assert inside.tolist() == [True, False] and np.unravel_index(place[0], grid) == (48, 56, 48)


def test_grid_too_small(root: Path) -> None:
    path = series(root, "01")
    with pytest.raises(UserError, match=r"tokenizer\.grid"):
        Windows([path], index(root, "01")[0], (4, 8, 6))


def nan_volume(bold: Path) -> None:
    data = nib.load(bold).get_fdata()
    data[..., 17] = np.nan
    save_image(bold, data, AFFINE, tr=TR)


def empty_mask(bold: Path) -> None:
    save_image(str(bold).replace("preproc_bold", "brain_mask"), np.zeros(SHAPE), AFFINE)


def confounds_of(bold: Path) -> Path:
    return next(bold.parent.glob("*run-2_desc-confounds_timeseries.tsv"))


def cut(table: Path, lines: int) -> None:
    table.write_text("\n".join(table.read_text().split("\n")[:lines]))


def drop(table: Path, prefix: str) -> None:
    content = pd.read_csv(table, sep="\t")
    content.drop(columns=[c for c in content if c.startswith(prefix)]).to_csv(table, sep="\t", index=False, na_rep="n/a")


FAULTS = {
    "NaN volume": (nan_volume, r"NaN or infinity in 1 volume\(s\) \(index 17\)"),
    "truncated": (lambda bold: bold.write_bytes(bold.read_bytes()[:3000]), "cannot be read"),
    "not NIfTI": (lambda bold: bold.write_bytes(b"nothing"), "cannot be opened as NIfTI"),
    "no mask": (lambda bold: Path(str(bold).replace("preproc_bold", "brain_mask")).unlink(), "brain_mask.nii.gz: the image does not exist"),
    "empty mask": (empty_mask, "voxels: found none"),
    "no confounds": (lambda bold: confounds_of(bold).unlink(), "confounds"),
    "other length": (lambda bold: cut(confounds_of(bold), 41), "found 40 rows, expected 60"),
    "no CSF": (lambda bold: drop(confounds_of(bold), "csf"), "confounds: .*csf"),
    "no cosines": (lambda bold: drop(confounds_of(bold), "cosine"), "found no cosine columns"),
    "other grid": (lambda bold: save_image(bold, np.ones((7, 8, 7, N_VOLUMES)), AFFINE, tr=TR), "grid: found"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(root: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(preprocessed(root, "01", "2"))
    with pytest.raises(UserError, match=message):
        series(root, "01")
    assert not list((root / "bold").glob("*"))


def test_too_few_volumes(root: Path) -> None:
    bold = preprocessed(root, "01", "1")
    save_image(bold, np.ones((*SHAPE, 18)), AFFINE, tr=TR)
    cut(next(bold.parent.glob("*run-1_desc-confounds_timeseries.tsv")), 19)
    with pytest.raises(UserError, match="found 18 for 10 regressors"):
        series(root, "01")


def test_wrong_space(root: Path) -> None:
    config = experiment(root)
    other = config.preprocessing.model_copy(update={"space": "MNI152NLin6Asym"})
    config = config.model_copy(update={"preprocessing": other})
    with pytest.raises(UserError, match=r"expected task-action.*MNI152NLin6Asym"):
        series(root, "01", config)


def test_onset_beyond_run(root: Path) -> None:
    series(root, "01")
    raw_events(root, "01", "2", [10.0, 130.0])
    trials, _ = index(root, "01")
    left_out = pd.read_parquet(excluded(root / "01_trials.parquet"))
    assert 10.0 in trials["onset"].tolist() and 130.0 not in trials["onset"].tolist()
    assert [NO_ONSET, "onset: found 130 s, expected 0 to 120 s"] in left_out[["reason", "detail"]].to_numpy().tolist()


def pretraining(root: Path, **preprocessing: Any) -> Config:
    """The experiment, whose derivatives are ready, pretrained on those of further people."""
    config = experiment(root).model_dump()
    config["datasets"]["had"]["derivatives_dir"] = str(root / "derivatives")
    config["preprocessing"].update(preprocessing)
    extra = {"derivatives_dir": str(root / "hcp" / "derivatives"), "task": "action", "session": "action01", "subjects": ["07"]}
    return Config.parse(config | {"pretraining": {"hcp": extra}})


def rename(root: Path, run: str, old: str, new: str) -> None:
    for path in [p for p in (root / "derivatives").rglob("*") if f"_run-{run}" in p.name]:
        path.rename(path.with_name(path.name.replace(old, new)))


@pytest.fixture
def hcp(root: Path) -> Path:
    """Ready derivatives of a person whose runs differ in their phase direction alone."""
    for run, direction in (("1", "LR"), ("2", "RL")):
        fmriprep_run(root / "hcp", "07", run, np.random.default_rng(3))
        rename(root / "hcp", run, f"_run-{run}", f"_dir-{direction}")
    return root / "hcp"


def test_ready_derivatives_of_others_pass_and_are_cleaned(root: Path, hcp: Path) -> None:
    config = pretraining(root)
    grid = check_pretraining_set(config, "hcp")
    assert grid == {"space": SPACE, "grid_shape": list(SHAPE), "affine": AFFINE.tolist()}
    write_series(config, config.pretraining["hcp"], "hcp", "07", hcp / "derivatives", root / "sub-07_bold.npy")
    header = json.loads((root / "sub-07_bold.json").read_text())
    assert [r["run"] for r in header["runs"]] == ["dir-LR_run-01", "dir-RL_run-01"] and header["dataset"] == "hcp"
    entries = subject_manifest(config, "hcp", "07")["manifest"]
    assert sum(len(files) for files in entries.values()) == sum(p.is_file() for p in hcp.rglob("sub-07/**/*"))


def test_derivatives_that_do_not_fit_the_experiments_are_named_before_anything_is_computed(root: Path, hcp: Path) -> None:
    config = pretraining(root)
    masks = {p: p.read_bytes() for p in hcp.rglob("*_mask.nii.gz")}
    images = {p: p.read_bytes() for p in hcp.rglob("*_bold.nii.gz")}

    def moved(paths: Iterable[Path], affine: np.ndarray) -> None:
        for path in paths:
            image = nib.load(path)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header), path)

    shifted = AFFINE.copy()
    shifted[0, 3] = 2.0
    for affine, complaint in (
        (shifted, r"first voxel at \(2, 0, 0\) mm; expected a grid .*first voxel at \(0, 0, 0\) mm, as in .*sub-01"),
        (2 * AFFINE, "voxels: found 4 x 4 x 4 mm, expected 2"),
    ):
        moved([*masks, *images], affine)
        with pytest.raises(UserError, match=complaint):
            check_pretraining_set(config, "hcp")
    for path, content in (masks | images).items():
        path.write_bytes(content)
    for old, new, complaint in (
        (SPACE, "MNI152NLin6Asym", "found .*space-MNI152NLin6Asym.*; expected .*space-MNI152NLin2009cAsym"),
        ("_desc-brain_mask", "_desc-head_mask", "desc-brain_mask.*does not exist"),
    ):
        for direction in ("LR", "RL"):
            for path in [p for p in hcp.rglob("*") if f"_dir-{direction}" in p.name]:
                path.rename(path.with_name(path.name.replace(old, new)))
        with pytest.raises(UserError, match=complaint):
            check_pretraining_set(config, "hcp")
        for path in [p for p in hcp.rglob("*") if new in p.name]:
            path.rename(path.with_name(path.name.replace(new, old)))
    with pytest.raises(UserError, match=r"volumes: found 24 in the longest run, expected at least 30 for a window"):
        slow = config.pretraining["hcp"].model_copy(update={"seconds_per_volume": 5.0})
        long = config.bold.model_copy(update={"n_volumes": 30})
        check_pretraining_set(config.model_copy(update={"pretraining": {"hcp": slow}, "bold": long}), "hcp")


def test_responses_of_trials_are_those_of_one_model_each() -> None:
    """LSS against one least-squares fit per trial, written out; the responses put in come out."""
    rng = np.random.default_rng(4)
    onsets = np.arange(12.0, 260.0, 8.0) + rng.uniform(0, 0.5, 31)
    X_TN = trial_regressors(onsets, np.full(31, 2.0), 150, TR, 0.9)
    reference = canonical_response(onsets[3], 0.9 + TR * np.arange(150))
    assert np.corrcoef(X_TN[:, 3], reference)[0, 1] > 0.999, "SPM's canonical response, at the right time"
    nuisance = np.column_stack([np.ones(150), np.linspace(-1, 1, 150), rng.normal(size=(150, 4))])
    true_NV = rng.normal(size=(31, 40))
    data = 8000 + X_TN @ true_NV * 50 + nuisance[:, 1:] @ rng.normal(size=(5, 40)) * 30 + rng.normal(size=(150, 40))
    found_NV = separate_responses(data.astype(np.float32), X_TN, nuisance)
    for i in (0, 13, 30):
        design = np.column_stack([X_TN[:, i], X_TN.sum(axis=1) - X_TN[:, i], nuisance])
        expected = np.linalg.lstsq(design, data, rcond=None)[0][0]
        np.testing.assert_allclose(found_NV[i], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    assert np.corrcoef(found_NV.ravel(), true_NV.ravel())[0, 1] > 0.95
    one = separate_responses(data.astype(np.float32), X_TN[:, :1], nuisance)
    np.testing.assert_allclose(
        one[0], np.linalg.lstsq(np.column_stack([X_TN[:, :1], nuisance]), data, rcond=None)[0][0], rtol=5e-3, atol=0.5
    )


def canonical_response(onset: float, times: np.ndarray) -> np.ndarray:
    """SPM's double gamma (peak 6 s, undershoot 16 s, ratio 1/6), convolved with 2 s, written out."""
    fine = np.arange(0, 32, 0.01)
    kernel = stats.gamma.pdf(fine, 6) - stats.gamma.pdf(fine, 16) / 6
    boxcar = np.convolve(kernel, np.ones(200))[: len(fine)]
    return np.interp(times - onset, fine, boxcar, left=0, right=0)


def test_series_of_responses(root: Path) -> None:
    """One row per trial, found again by its index; with an onset convention that leaves a lead-in out."""
    whole = experiment(root, signal="lss", n_volumes=1)
    config, job = as_step(whole, "bold_series", dataset="had"), as_step(whole, "trials", dataset="had")
    path = root / "bold/sub-01_bold.npy"
    write_series(config, config.datasets["had"], "had", "01", root / "derivatives", path, lead_in=2.0)
    betas_NV, header = np.load(path), json.loads(path.with_suffix(".json").read_text())
    assert betas_NV.shape[0] == 8 and header["axes"][0] == "trial" and header["runs"][1]["first_volume"] == 4
    assert np.abs(betas_NV[:4].astype(float).mean(axis=0)).max() < 1e-2
    paths = [root / f"01_{name}.parquet" for name in ("trials", "labels", "excluded")]
    write_trials(job, "had", "01", series=path, checked=checked(root, lead_in=2.0), trials=paths[0], labels=paths[1], excluded=paths[2])
    trials = pd.read_parquet(paths[0])
    assert trials["first_volume"].tolist() == list(range(8)) and trials["onset"].tolist()[:2] == [12.04, 16.0]
    with pytest.raises(UserError, match="signal is 'lss', which gives one response per trial, but n_volumes is 3"):
        experiment(root, signal="lss", n_volumes=3)


def test_events_outside_a_run_have_no_response(root: Path) -> None:
    """Rows and trials agree in a run with odd onsets, one of them missing, and in a run without trials."""
    odd = raw_events(root, "01", "1", [-4.0, 10.0, 14.0, 50.0, 130.0])
    odd.write_text(odd.read_text().replace("14.0", "n/a"))
    raw_events(root, "01", "2", [])
    whole = experiment(root, signal="lss", n_volumes=1)
    path = root / "bold/sub-01_bold.npy"
    write_series(whole, whole.datasets["had"], "had", "01", root / "derivatives", path)
    assert np.load(path).shape[0] == 2 and [run["n_volumes"] for run in json.loads(path.with_suffix(".json").read_text())["runs"]] == [2, 0]
    files = {name: root / f"01_{name}.parquet" for name in ("trials", "labels", "excluded")}
    write_trials(as_step(whole, "trials", dataset="had"), "had", "01", series=path, checked=checked(root), **files)
    trials, left_out = pd.read_parquet(files["trials"]), pd.read_parquet(files["excluded"])
    assert trials["first_volume"].tolist() == [0, 1] and trials["onset"].tolist() == [10.0, 50.0]
    assert left_out["reason"].tolist() == [NO_ONSET] * 3
