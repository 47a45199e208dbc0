"""Ready derivatives as programs and people leave them: read rightly, or named by the preflight."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from boldscribe.config.data_settings import Dataset
from boldscribe.data.images import save_image
from boldscribe.data.layout import metadata
from boldscribe.data.runs import mask_path
from boldscribe.data.timing import run_repetition_time, start_time
from boldscribe.machinery.errors import UserError
from tests.method.ready_dataset import (
    CUBIC,
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
    write_events,
)


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
    "confounds empty": (lambda root: confounds_of(root).write_text(""), "found an empty file"),
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
    (lost,) = [problem for problem in error.value.problems if "missing_runs: exclude" in problem]
    assert lost.startswith("2 times: sub-01: found runs 01, 02, expected also 03, of which")
    assert lost.endswith("also sub-02 (found runs 02, expected also 01)")
    config = experiment(root, missing_runs="exclude")
    report = preflight(config)
    assert report["remarks"]["02"] == ["run 01: left out, since there is no BOLD to read"]
    assert len(series_and_trials(config, root, report)["02"][1]) == 3
    write_events(root, "03", "run-3")  # a target's run of no role
    write_events(root, "01", "dir-PA_run-4")
    remarks = preflight(experiment(root, missing_runs="exclude", entities={"dir": "AP"}))["remarks"]
    assert "03" not in remarks and remarks["01"][1] == "run 04: left out, since datasets.*.entities chooses no file of it"


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


def test_a_compressed_series_is_judged_where_the_mask_is(root: Path) -> None:
    """Also uncompressed, and with the mask as the only one of the two that is compressed."""
    bold = bold_of(root)
    plain = Path(str(bold).removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(bold.read_bytes()))
    bold.unlink()
    assert mask_path(plain) == Path(str(bold).replace("preproc_bold", "brain_mask")) and metadata(plain, root)["StartTime"] == 0.9
    assert len(series_and_trials(experiment(root), root, preflight(experiment(root)))["01"][1]) == 6
