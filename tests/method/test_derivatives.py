"""Ready derivatives as programs and people leave them: read rightly, or named by the preflight."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from boldscribe.config import Config
from boldscribe.config.data_settings import Bold, Dataset
from boldscribe.data.confounds import confounds_path, read_confounds
from boldscribe.data.images import load_image, save_image
from boldscribe.data.layout import find_runs, metadata
from boldscribe.data.preprocessed import preprocessed_runs
from boldscribe.data.runs import mask_path
from boldscribe.data.timing import run_repetition_time, start_time, times_along_axis
from boldscribe.machinery.errors import UserError
from tests.method.ready_dataset import (
    MOTION,
    N_VOLUMES,
    SHAPE,
    SPACE,
    SUBJECTS,
    TR,
    bold_of,
    change_confounds,
    change_sidecar,
    confounds_of,
    experiment,
    preflight,
    series_and_trials,
    write_dataset,
    write_events,
    write_run,
)

CUBIC = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("ready") / "sound")


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def rewrite(bold: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = CUBIC) -> None:
    data = change(nib.load(bold).get_fdata())
    save_image(bold, data, affine, tr=TR if data.ndim == 4 else None)


def with_values(data: np.ndarray, where: Any, value: float) -> np.ndarray:
    data[where] = value
    return data


def mask_of(root: Path) -> Path:
    return Path(str(bold_of(root)).replace("preproc_bold", "brain_mask"))


def new_header(bold: Path, change: Callable[[Any], object]) -> None:
    image = nib.load(bold)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    change(image.header)
    nib.save(image, bold)


def set_pixdim(header: Any, seconds: float) -> None:
    header["pixdim"][4] = seconds


# what the preflight says; None: it is green, and series and trials must be written
BROKEN: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nothing": (lambda root: None, None),
    "mask deleted": (lambda root: mask_of(root).unlink(), "brain_mask.nii.gz: the image does not exist"),
    "mask of another shape": (lambda root: save_image(mask_of(root), np.ones((5, 6, 5)), CUBIC), "grid: found a grid of 5 x 6 x 5"),
    "mask shifted": (lambda root: save_image(mask_of(root), np.ones(SHAPE), CUBIC + np.eye(4, k=3)), r"first voxel at \(1, 0, 0\) mm"),
    "mask empty": (lambda root: save_image(mask_of(root), np.zeros(SHAPE), CUBIC), "voxels: found none inside the masks"),
    "mask all NaN": (lambda root: save_image(mask_of(root), np.full(SHAPE, np.nan), CUBIC), "voxels: found none inside the masks"),
    "mask NaN outside": (
        lambda root: rewrite(mask_of(root), lambda mask: np.where(mask > 0, 1, np.nan)),
        None,
    ),
    "mask with a fourth dimension": (lambda root: save_image(mask_of(root), np.ones((*SHAPE, 1)), CUBIC), None),
    "mask truncated": (lambda root: mask_of(root).write_bytes(mask_of(root).read_bytes()[:-40]), "brain_mask.* cannot be"),
    "confounds deleted": (lambda root: confounds_of(root).unlink(), "confounds: found none"),
    "confounds a row short": (lambda root: change_confounds(root, lambda t: t.iloc[:-1]), "found 39 rows, expected 40"),
    "confounds a row long": (lambda root: change_confounds(root, lambda t: pd.concat([t, t.iloc[-1:]])), "found 41 rows, expected 40"),
    "confounds without rot_y": (lambda root: change_confounds(root, lambda t: t.drop(columns="rot_y")), "found no column rot_y"),
    "confounds without csf": (lambda root: change_confounds(root, lambda t: t.drop(columns="csf")), "no column csf.*bold.tissue: null"),
    "confounds without cosines": (lambda root: change_confounds(root, lambda t: t.drop(columns="cosine00")), "found no cosine columns"),
    "confounds without displacement": (
        lambda root: change_confounds(root, lambda t: t.drop(columns="framewise_displacement")),
        "no column framewise_displacement",
    ),
    "confounds without a column that is not used": (lambda root: change_confounds(root, lambda t: t.drop(columns="csf_power2")), None),
    "confounds empty": (lambda root: confounds_of(root).write_text(""), "not a tab-separated table"),
    "confounds of bytes": (lambda root: confounds_of(root).write_bytes(b"\xff\xfe\x00"), "confounds_timeseries.tsv: "),
    "confounds with text": (lambda root: change_confounds(root, lambda t: t.assign(csf="high")), "csf: found 'high' in row 1"),
    "infinite confounds": (lambda root: change_confounds(root, lambda t: t.assign(csf=np.inf)), "csf: found n/a in all rows"),
    "BOLD truncated": (lambda root: bold_of(root).write_bytes(bold_of(root).read_bytes()[:-300]), "bytes fewer than the shape"),
    "BOLD no image": (lambda root: bold_of(root).write_bytes(b"no"), "cannot be opened as NIfTI"),
    "BOLD of another grid": (
        lambda root: [rewrite(path, lambda data: data, 1.5 * CUBIC) for path in (bold_of(root), mask_of(root))],
        "grid: found a grid of 5 x 6 x 4 voxels of 3 x 3 x 3 mm.*expected a grid of 5 x 6 x 4 voxels of 2 x 2 x 2 mm",
    ),
    "NaN in one volume": (
        lambda root: rewrite(bold_of(root), lambda d: with_values(d, (2, 2, 2, 17), np.nan)),
        r"NaN or infinity in 1 volume\(s\) \(index 17\) inside the brain mask",
    ),
    "infinity inside": (lambda root: rewrite(bold_of(root), lambda d: with_values(d, (2, 2, 2, 3), np.inf)), r"\(index 3\) inside"),
    "NaN outside the mask": (lambda root: rewrite(bold_of(root), lambda d: with_values(d, np.s_[:1], np.nan)), None),
    "BOLD with a fifth dimension": (lambda root: rewrite(bold_of(root), lambda d: d[..., None]), None),
    "BOLD with its volumes fifth": (lambda root: rewrite(bold_of(root), lambda d: d[:, :, :, None]), None),
    "pixdim 0": (lambda root: new_header(bold_of(root), lambda h: set_pixdim(h, 0)), None),
    "pixdim wrong": (lambda root: new_header(bold_of(root), lambda h: set_pixdim(h, 1)), None),
    "StartTime null": (lambda root: change_sidecar(bold_of(root), StartTime=None), None),
    "StartTime text": (lambda root: change_sidecar(bold_of(root), StartTime="0.9 s"), "StartTime: found '0.9 s'"),
    "StartTime true": (lambda root: change_sidecar(bold_of(root), StartTime=True), "StartTime: found True"),
    "RepetitionTime null": (lambda root: change_sidecar(bold_of(root), RepetitionTime=None), None),
    "RepetitionTime a list": (lambda root: change_sidecar(bold_of(root), RepetitionTime=[2]), r"RepetitionTime: found \[2\]"),
    "RepetitionTime NaN": (lambda root: change_sidecar(bold_of(root), RepetitionTime=np.nan), "RepetitionTime: found nan"),
    "SliceTimingCorrected text": (
        lambda root: change_sidecar(bold_of(root), StartTime=..., SliceTimingCorrected="yes"),
        "SliceTimingCorrected: found 'yes'",
    ),
    "sidecar not JSON": (lambda root: Path(str(bold_of(root)).replace(".nii.gz", ".json")).write_text("{"), "not a JSON object"),
    "sidecar a list": (lambda root: Path(str(bold_of(root)).replace(".nii.gz", ".json")).write_text("[]"), "not a JSON object"),
    "sidecar null": (lambda root: Path(str(bold_of(root)).replace(".nii.gz", ".json")).write_text("null"), "not a JSON object"),
    "sidecar gone": (lambda root: Path(str(bold_of(root)).replace(".nii.gz", ".json")).unlink(), None),
    "too few volumes": (
        lambda root: [rewrite(bold_of(root), lambda d: d[..., :20]), change_confounds(root, lambda t: t.iloc[:20])],
        "found 20 for 9 regressors",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_named_before_anything_is_computed_or_harms_nothing(root: Path, fault: str) -> None:
    """A green preflight is a promise: series and trials of all subjects are written."""
    damage, message = BROKEN[fault]
    damage(root)
    config = experiment(root)
    if message is not None:
        with pytest.raises(UserError, match=message) as error:
            preflight(config)
        assert "sub-01" in str(error.value) and len(error.value.problems) == 1
        return
    made = series_and_trials(config, root, preflight(config))
    assert {subject: len(trials) for subject, (_, trials) in made.items()} == dict.fromkeys(SUBJECTS, 6)
    values = np.load(root / "out/sub-01_bold.npy")
    assert values.shape == (2 * N_VOLUMES, 3 * 4 * 2) and np.isfinite(values).all()


@pytest.mark.parametrize(
    "where", ["task-watch_bold.json", "sub-01/sub-01_task-watch_bold.json", "sub-01/func/sub-01_task-watch_run-02_bold.json"]
)
@pytest.mark.parametrize("images", ["none", "events", "echoes"])
def test_start_time_is_the_middle_of_inherited_slice_times(tmp_path: Path, where: str, images: str) -> None:
    bold = tmp_path / f"ready/sub-01/func/sub-01_task-watch_run-02_space-{SPACE}_desc-preproc_bold.nii.gz"
    bold.parent.mkdir(parents=True)
    change_sidecar(bold, RepetitionTime=2, SliceTimingCorrected=True)
    sidecar = tmp_path / "raw" / where
    (tmp_path / "raw/sub-01/func").mkdir(parents=True)
    sidecar.write_text(json.dumps({"RepetitionTime": 2, "SliceTiming": [0, 0.5, 1, 1.95]}))
    for name in {"none": [], "events": ["events.tsv"], "echoes": ["echo-1_bold.nii.gz", "echo-2_bold.nii.gz"]}[images]:
        (tmp_path / f"raw/sub-01/func/sub-01_task-watch_run-02_{name}").touch()
    design = Dataset(bids_dir=str(tmp_path / "raw"), task="watch")
    assert start_time(bold, tmp_path / "ready", design, "01") == (pytest.approx(0.975), "")
    sidecar.write_text(json.dumps({"SliceTiming": None}))
    seconds, note = start_time(bold, tmp_path / "ready", design, "01")
    assert seconds == 0 and "slice timing was corrected, but" in note
    for wrong in ("0.5", [0, None], [0, 500, 1950], [0, True]):
        sidecar.write_text(json.dumps({"RepetitionTime": 2, "SliceTiming": wrong}))
        with pytest.raises(UserError, match="SliceTiming: found"):
            start_time(bold, tmp_path / "ready", design, "01")


def test_a_start_time_that_nothing_tells_is_noted(root: Path) -> None:
    change_sidecar(bold_of(root), StartTime=...)
    report = preflight(experiment(root))
    assert report["remarks"]["01"] == [
        "run 02: the JSON sidecar has neither StartTime nor SliceTimingCorrected; volumes are taken at the start of their acquisition"
    ]
    change_sidecar(bold_of(root), StartTime=..., SliceTimingCorrected=True)
    header, _ = series_and_trials(experiment(root), root, preflight(experiment(root)))["01"]
    assert [run["start_time"] for run in header["runs"]] == [0.9, pytest.approx(0.975)]


def test_missing_runs_of_source_subjects_are_named_and_left_out_if_wished(root: Path) -> None:
    bold_of(root, "02", "1").unlink()
    (root / "raw/sub-01/func/sub-01_task-watch_run-3_bold.nii.gz").touch()
    with pytest.raises(UserError) as error:
        preflight(experiment(root))
    lost = [problem for problem in error.value.problems if "missing_runs: exclude" in problem]
    assert [problem.split(", of which")[0] for problem in lost] == [
        "sub-01: found runs 01, 02, expected also 03",
        "sub-02: found runs 02, expected also 01",
    ]
    config = experiment(root, missing_runs="exclude")
    report = preflight(config)
    assert report["remarks"]["02"] == ["run 01: left out, since there is no BOLD to read"]
    assert len(series_and_trials(config, root, report)["02"][1]) == 3
    write_events(root, "03", "run-3")  # a target's run of no role
    assert "03" not in preflight(config)["remarks"]


GRIDS = {
    "no res, not cubic": ([f"space-{SPACE}"], [np.diag([3.0, 3, 4, 1])], "2", None, 0),
    "res-02": ([f"space-{SPACE}_res-02"], [CUBIC], "2", None, 0),
    "res-native": ([f"space-{SPACE}_res-native"], [np.diag([-3.0, 3, 4, 1])], "2", None, 0),
    "res-1 is a label": ([f"space-{SPACE}_res-1"], [CUBIC], "2", None, 0),
    "two grids, by size": ([f"space-{SPACE}", f"space-{SPACE}_res-2"], [np.diag([3.0, 3, 4, 1]), CUBIC], "2", None, 1),
    "two grids, labels are misleading": ([f"space-{SPACE}_res-1", f"space-{SPACE}_res-2"], [CUBIC, 1.5 * CUBIC], "2", None, 0),
    "two grids, by label": ([f"space-{SPACE}_res-native", f"space-{SPACE}_res-2"], [CUBIC, CUBIC], "2", "native", 0),
    "two grids, without a label": ([f"space-{SPACE}", f"space-{SPACE}_res-2"], [1.5 * CUBIC, CUBIC], "2", "null", 0),
    "two spaces": (["space-MNI152NLin6Asym_res-2", f"space-{SPACE}_res-2"], [CUBIC, CUBIC], "2", None, 1),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_the_grid_is_that_of_the_images(tmp_path: Path, kind: str) -> None:
    names, affines, size, res, chosen = GRIDS[kind]
    for name, affine in zip(names, affines, strict=True):
        write_run(tmp_path, "01", "run-1", standard=name, affine=affine)
    config = experiment(tmp_path, entities={"res": None if res == "null" else res} if res else {})
    settings = config.preprocessing.model_copy(update={"resolution": float(size)})
    runs = preprocessed_runs(tmp_path / "ready", "01", config.datasets["own"], settings)
    assert f"run-1_{names[chosen]}_desc" in runs["01"].name and np.allclose(
        load_image(runs["01"], 4).affine[:3, :3], affines[chosen][:3, :3]
    )
    assert mask_path(runs["01"]) == Path(str(runs["01"]).replace("preproc_bold", "brain_mask"))


def test_grids_that_nothing_chooses_are_shown(tmp_path: Path) -> None:
    for name, affine in (("res-a", 1.5 * CUBIC), ("res-b", 2 * CUBIC)):
        write_run(tmp_path, "01", "run-1", standard=f"space-{SPACE}_{name}", affine=affine)
    config = experiment(tmp_path)
    with pytest.raises(UserError, match=r"voxels of 3 x 3 x 3 mm.*voxels of 4 x 4 x 4 mm.*entities: \{res: a\} or \{res: b\}, or in prep"):
        preprocessed_runs(tmp_path / "ready", "01", config.datasets["own"], config.preprocessing)


def test_derivatives_on_a_grid_of_their_own_go_through(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", standard=f"space-{SPACE}", affine=np.diag([3.0, 3, 4, 1]))
    config = experiment(root)
    report = preflight(config)
    assert report["remarks"]["03"] == ["run 01, 02: voxels of 3 x 3 x 4 mm, as the images have them"]
    header, trials = series_and_trials(config, root, report)["03"]
    assert np.allclose(np.diag(header["affine"]), [3, 3, 4, 1]) and len(trials) == 6


def test_subjects_on_different_grids_are_refused_with_both(root: Path) -> None:
    turned = np.array([[0, -2.0, 0, 5], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    for run in ("1", "2"):
        write_run(root, "02", f"run-{run}", standard=f"space-{SPACE}_res-2", affine=turned)
    with pytest.raises(
        UserError, match=r"sub-02.*axes ALS, first voxel at \(5, 0, 0\) mm; expected .*axes RAS, first voxel at \(0, 0, 0\)"
    ):
        preflight(experiment(root))


@pytest.mark.parametrize("kept", ["", "echo-1", "part-mag", "echo-1_part-mag", "dir-AP", "acq-fast_rec-a"])
def test_confounds_and_masks_are_found_by_entities(tmp_path: Path, kept: str) -> None:
    """The table may lack what the image has: echo, part, space, res."""
    bold = write_run(tmp_path, "01", "run-1", standard=f"space-{SPACE}_res-2", affine=CUBIC)
    general = kept if kept.startswith(("dir", "acq")) else ""

    def named(path: Path, entities: str) -> Path:
        return path.with_name(path.name.replace("_run-1", f"_run-1_{entities}" if entities else "_run-1"))

    confounds, mask = confounds_of(tmp_path, run="1"), Path(str(bold).replace("preproc_bold", "brain_mask"))
    shutil.copy(confounds, Path(str(confounds).replace("run-1", "run-2")))
    shutil.copy(mask, Path(str(mask).replace(SPACE, "T1w")))
    bold, confounds, mask = bold.rename(named(bold, kept)), confounds.rename(named(confounds, general)), mask.rename(named(mask, general))
    assert confounds_path(bold) == confounds and mask_path(bold) == mask
    if kept.startswith("echo-1"):
        closer = shutil.copy(confounds, named(confounds, "echo-1"))
        shutil.copy(confounds, named(confounds, "echo-2"))
        assert confounds_path(bold) == closer
    plain = confounds.rename(str(confounds).replace("timeseries", "regressors"))
    assert kept.startswith("echo-1") or confounds_path(bold) == plain


@pytest.mark.parametrize("variants", [("dir-AP", "dir-PA"), ("acq-full", ""), ("echo-1", "echo-2"), ("rec-a_dir-AP", "rec-b_dir-AP")])
def test_variants_of_a_run_are_chosen_and_never_removed(root: Path, variants: tuple[str, str]) -> None:
    one, other = variants
    raw = root / "raw/sub-01/func"
    if other:
        bold_of(root, run="1").unlink()
    for variant in variants:
        write_run(root, "01", f"{variant}_run-1".lstrip("_"), standard=f"space-{SPACE}_res-2", affine=CUBIC)
        (raw / f"sub-01_task-watch_{variant}_run-1_bold.nii.gz".replace("__", "_")).touch()
    key, _, label = one.partition("_")[0].partition("-")
    absent = "null" if not other else other.split("_")[0].split("-")[1]
    with pytest.raises(UserError, match=rf"run 01: found .*choose one in datasets\.\*\.entities: .*{{{key}: ({label}|{absent})}}"):
        preflight(experiment(root))
    with pytest.raises(UserError, match=rf"entities: .*{{{key}: ({label}|{absent})}}"):
        find_runs(root / "raw", "01", None, "watch")
    config = experiment(root, entities={key: label})
    made = series_and_trials(config, root, preflight(config))
    assert len(made["01"][1]) == 6 and f"_{one}" in find_runs(root / "raw", "01", None, "watch", variant={key: label})["01"].name
    if not other:
        assert "_acq-" not in find_runs(root / "raw", "01", None, "watch", variant={key: None})["01"].name


def test_entities_with_settings_of_their_own_are_refused() -> None:
    assert Dataset(entities={"echo": 2}).entities == {"echo": "2"}  # type: ignore[dict-item]
    for entities, message in (
        ({"run": "1"}, "adaptation_runs"),
        ({"space": "T1w"}, "preprocessing.space"),
        ({"direction": "AP"}, "such as dir"),
    ):
        with pytest.raises(UserError, match=message):
            Config.parse({"datasets": {"own": {"entities": entities}}})


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda h: set_pixdim(h, 0), "header is 0 s"),
        (lambda h: set_pixdim(h, 1), "header is 1 s"),
        (lambda h: set_pixdim(h, 2000), "header is 2000 s"),
        (lambda h: set_pixdim(h, float("nan")), "header is nan s"),
        (lambda h: [set_pixdim(h, 2000), h.set_xyzt_units("mm", "msec")], ""),
        (lambda h: h.__setitem__("xyzt_units", 2), ""),
        (lambda h: h.__setitem__("xyzt_units", 2 + 56), ""),
    ],
)
def test_the_sidecars_repetition_time_holds(root: Path, change: Callable[[Any], object], note: str) -> None:
    new_header(bold_of(root), change)
    seconds, said = run_repetition_time(bold_of(root), root / "ready")
    assert seconds == TR and (note in said if note else not said)
    report = preflight(experiment(root))
    assert [note in line for line in report["remarks"].get("01", [])] == ([True] if note else [])
    header, trials = series_and_trials(experiment(root), root, report)["01"]
    assert header["runs"][1]["repetition_time"] == TR and trials["first_volume"].tolist()[3:] == [N_VOLUMES + v for v in (4, 12, 20)]


@pytest.mark.parametrize("motion", ["basic", "power2", "derivatives", "full"])
@pytest.mark.parametrize("tissue", [None, "basic", "power2", "derivatives", "full"])
def test_regressors_are_those_of_nilearn(root: Path, motion: str, tissue: str | None) -> None:
    change_confounds(root, lambda table: table.assign(non_steady_state_outlier00=np.eye(1, N_VOLUMES)[0]))
    confounds_of(root).with_suffix(".json").write_text("{}")
    strategy = ["motion", "high_pass", *(["wm_csf"] if tissue else [])]
    expected, rows = load_confounds(str(bold_of(root)), strategy=strategy, motion=motion, wm_csf=tissue or "basic", demean=False)
    found, steady, displacement = read_confounds(bold_of(root), N_VOLUMES, TR, Bold(motion=motion, tissue=tissue))
    pd.testing.assert_frame_equal(found, expected[sorted(expected)])
    assert np.flatnonzero(steady).tolist() == list(rows) and len(displacement) == N_VOLUMES


def lacking(column: str, rows: Any) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[rows, column] = np.nan

    return change


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, lacking("trans_x", range(29, 33)), "trans_x: found n/a in rows 30-33, expected a number for each volume"),
        ({}, lacking("rot_z", [39]), "rot_z: found n/a in rows 40"),
        ({}, lacking("white_matter", [0]), "white_matter: found n/a in rows 1, .*bold.tissue: null"),
        ({}, lacking("cosine00", [3, 7, 8]), "cosine00: found n/a in rows 4, 8-9"),
        (
            {"motion": "derivatives"},
            lacking("trans_y_derivative1", [0, 1]),
            "trans_y_derivative1: found n/a in rows 2, .*bold.motion: basic",
        ),
        ({}, lacking("csf", slice(None)), "csf: found n/a in all rows, .*bold.tissue: null"),
        ({"tissue": "full"}, lacking("csf_power2", slice(None)), "csf_power2: found n/a in all rows, .*bold.tissue: basic"),
    ],
)
def test_confounds_are_never_invented(root: Path, settings: dict[str, str], change: Callable[[pd.DataFrame], None], message: str) -> None:
    change_confounds(root, change)
    with pytest.raises(UserError, match=message):
        preflight(experiment(root, bold=settings))


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"motion": "full", "tissue": "derivatives"}, lambda table: None),
        ({"tissue": None}, lacking("csf", slice(None))),
        ({}, lacking("csf_derivative1", range(5, 9))),
        ({}, lambda table: table.assign(non_steady_state_outlier00=np.eye(1, N_VOLUMES)[0], csf=table["csf"].where(table.index > 0))),
    ],
)
def test_confounds_that_are_not_used_may_lack_values(root: Path, settings: dict[str, Any], change: Callable[[pd.DataFrame], Any]) -> None:
    """Derivatives at the first volume, columns that are not chosen, and volumes before the steady state."""
    change_confounds(root, change)
    found, steady, _ = read_confounds(bold_of(root), N_VOLUMES, TR, Bold.model_validate(settings))
    assert np.isfinite(found.to_numpy()).all() and set(MOTION) <= set(found) and steady.sum() in (N_VOLUMES, N_VOLUMES - 1)


@pytest.mark.parametrize(
    ("shape", "ndim", "expected"),
    [
        ((8, 8, 8, 1), 3, (8, 8, 8)),
        ((8, 8, 8, 1, 1), 3, (8, 8, 8)),
        ((8, 8, 1, 1), 3, (8, 8, 1)),
        ((1, 8, 8), 3, (1, 8, 8)),
        ((4, 5, 3, 6, 1), 4, (4, 5, 3, 6)),
        ((4, 5, 3, 1, 6), 4, (4, 5, 3, 6)),
        ((4, 5, 3, 1), 4, (4, 5, 3, 1)),
        ((4, 5, 3, 1, 1), 4, (4, 5, 3, 1)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_superfluous_dimensions_are_dropped(
    tmp_path: Path, shape: tuple[int, ...], ndim: int, expected: tuple[int, ...], dtype: str
) -> None:
    data = np.random.default_rng(0).integers(0, 99, shape).astype(float)
    save_image(tmp_path / "a.nii.gz", data, 3 * CUBIC, dtype=dtype)
    image = load_image(tmp_path / "a.nii.gz", ndim)
    assert image.shape == expected and len(image.header.get_zooms()) == ndim and image.get_filename() == str(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), data.reshape(expected), atol=2e-3)


@pytest.mark.parametrize(("shape", "ndim"), [((4, 5, 3), 4), ((4, 5, 3, 2), 3), ((4, 5, 3, 2, 2), 4), ((4, 5), 3)])
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...], ndim: int) -> None:
    save_image(tmp_path / "a.nii.gz", np.ones(shape), CUBIC)
    with pytest.raises(UserError, match=f"expected {ndim} dimensions"):
        load_image(tmp_path / "a.nii.gz", ndim)


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ({}, ([], 2)),
        ({"SliceTiming": None, "SliceEncodingDirection": None}, ([], 2)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": "k-"}, ([1, 0], 2)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": "j"}, ([0, 1], 1)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": 3}, "SliceEncodingDirection: found 3"),
        ({"SliceTiming": {"0": 1}}, "SliceTiming: found {'0': 1}"),
        ({"SliceTiming": [0, "1"]}, "SliceTiming: found"),
    ],
)
def test_slice_times_in_the_order_of_the_array(sidecar: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            times_along_axis(sidecar, Path("bold.nii.gz"))
    else:
        assert times_along_axis(sidecar, Path("bold.nii.gz")) == expected


def test_a_compressed_series_is_judged_where_the_mask_is(root: Path) -> None:
    """Also uncompressed, and with the mask as the only one of the two that is compressed."""
    bold = bold_of(root)
    plain = Path(str(bold).removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(bold.read_bytes()))
    bold.unlink()
    assert mask_path(plain) == Path(str(bold).replace("preproc_bold", "brain_mask")) and metadata(plain, root)["StartTime"] == 0.9
    assert len(series_and_trials(experiment(root), root, preflight(experiment(root)))["01"][1]) == 6
