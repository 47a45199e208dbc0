"""The embedded preprocessing on heads whose motion, pose and shape are known."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_template
from nilearn.interfaces.fmriprep import load_confounds
from nipype.algorithms.confounds import compute_dvars
from scipy import ndimage

from boldscribe.config import Config, parse_config
from boldscribe.errors import UserError
from boldscribe.images import save_image
from boldscribe.preprocessing import confounds, steps
from boldscribe.preprocessing.embedded import preprocess_subject
from boldscribe.preprocessing.engine import preprocess
from boldscribe.preprocessing.motion import Realigner, apply_affine, realign, rigid, rigid_parameters
from boldscribe.preprocessing.resampling import correct_slice_timing
from boldscribe.preprocessing.template import SPACE, load_template, output_grid

CENTRE = np.array([0.0, -18.0, 10.0])
N_VOLUMES, TR = 24, 2.0
POSE = np.array([3.0, -4.0, 5.0, 0.06, -0.04, 0.05])  # of the head in the scanner: mm, rad


@cache
def head(contrast: str) -> tuple[np.ndarray, np.ndarray]:
    """Template brain in a skull and scalp: values and affine, on the template's own grid."""
    template = load_mni152_template(resolution=2)
    brain = template.get_fdata(dtype=np.float32)
    distance = ndimage.distance_transform_edt(brain <= 0.05) * 2
    scalp = (distance > 8) & (distance <= 14)
    values = {"t1w": 900 * brain + 700 * scalp, "bold": 8000 * (1.6 - brain) * (distance == 0) + 2000 * scalp}[contrast]
    return ndimage.gaussian_filter(values.astype(np.float32), 0.7), template.affine


def scan(
    contrast: str,
    pose: np.ndarray,
    shape: tuple[int, int, int],
    voxel: float,
    noise: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The head as a scanner's grid sees it; `pose` sends template to scanner coordinates."""
    values, affine = head(contrast)
    grid = np.diag([voxel, voxel, voxel, 1.0])
    grid[:3, 3] = CENTRE - voxel * (np.array(shape) - 1) / 2
    pull = np.linalg.inv(affine) @ np.linalg.inv(rigid(pose, CENTRE)) @ grid
    volume = ndimage.affine_transform(values, pull[:3, :3], pull[:3, 3], output_shape=shape, order=3)
    return volume + np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32), grid


def moving_run(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A BOLD run of the posed head under known motion, (X, Y, Z, T)."""
    volumes = []
    for t, parameters in enumerate(motion):
        together = rigid_parameters(rigid(parameters, CENTRE) @ rigid(POSE, CENTRE), CENTRE)
        volume, grid = scan("bold", together, (38, 44, 36), 5.0, 60.0, t)
        volumes.append(volume)
    return np.stack(volumes, axis=-1).astype(np.float32), grid


@pytest.fixture(scope="module")
def motion() -> np.ndarray:
    """A walk of the head with a jump, (T, 6), zero at the middle volume."""
    steps_taken = np.random.default_rng(5).normal(size=(N_VOLUMES, 6)) * [0.1, 0.1, 0.1, 0.002, 0.002, 0.002]
    walk = np.cumsum(steps_taken, axis=0)
    walk[18:, 2] += 1.5
    return walk - walk[N_VOLUMES // 2]


@pytest.fixture(scope="module")
def run(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return moving_run(motion)


def brain_points() -> np.ndarray:
    """Template coordinates all over the brain, (3, N)."""
    shape, affine = output_grid(8)
    return apply_affine(affine, np.argwhere(load_template(shape, affine).mask).T)


def test_realigner_finds_known_motion(run: tuple[np.ndarray, np.ndarray], motion: np.ndarray) -> None:
    bold, affine = run
    matrices, _ = realign(bold, affine)
    points = brain_points()
    truth = [apply_affine(rigid(p, CENTRE), points) for p in motion]
    moved = [np.linalg.norm(t - points, axis=0).mean() for t in truth]
    errors = [np.linalg.norm(apply_affine(m, points) - t, axis=0) for m, t in zip(matrices, truth, strict=True)]
    assert np.max(moved) > 1 and np.mean(errors) < 0.1 and np.max(errors) < 0.3


def test_reference_registers_to_itself(run: tuple[np.ndarray, np.ndarray]) -> None:
    bold, affine = run
    realigner = Realigner(bold[..., 0], affine)
    start = rigid(np.array([1.0, -0.5, 0.7, 0.01, -0.01, 0.02]), realigner.centre)
    assert np.abs(realigner.register(bold[..., 0], np.eye(4)) - np.eye(4)).max() < 1e-6
    assert np.abs(rigid_parameters(realigner.register(bold[..., 0], start), realigner.centre)).max() < 2e-3


def test_slice_timing() -> None:
    """Slices that sample one wave at different times show it at one time afterwards."""
    times = np.array([0.0, 1.0, 0.5, 1.5])
    wave = np.sin((np.arange(80) * TR + times[:, None]) / 6).astype(np.float32)
    bold = np.broadcast_to(wave[:, None, None], (4, 3, 2, 80))
    corrected, start = correct_slice_timing(np.ascontiguousarray(bold), times, TR, axis=0)
    assert start == 0.75 and np.abs(corrected - np.sin((np.arange(80) * TR + start) / 6))[..., 4:-4].max() < 1e-3


def test_confounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVARS as nipype computes it; FD by hand; aCompCor finds a planted signal."""
    # nipype takes the Yule-Walker equations of order 1 from a package of their own
    monkeypatch.setattr("nipype.algorithms.confounds._AR_est_YW", lambda x, order: np.array([np.dot(x[1:], x[:-1]) / np.dot(x, x)]))
    rng = np.random.default_rng(2)
    series = (1000 + 10 * rng.normal(size=(300, 50))).astype(np.float32)
    planted = rng.normal(size=50)
    series[:100] += 30 * planted.astype(np.float32)
    voxels = np.arange(300)
    tissues = confounds.Tissues(voxels >= 0, voxels < 60, (voxels >= 60) & (voxels < 100))
    parameters = rng.normal(size=(50, 6)) * [0.1, 0.1, 0.1, 0.001, 0.001, 0.001]
    table, metadata = confounds.confounds_table(series, tissues, parameters, TR)
    save_image(tmp_path / "bold.nii.gz", series.reshape(10, 10, 3, 50), np.eye(4))
    save_image(tmp_path / "mask.nii.gz", np.ones((10, 10, 3)), np.eye(4))
    standardised, plain, _ = compute_dvars(str(tmp_path / "bold.nii.gz"), str(tmp_path / "mask.nii.gz"))
    assert np.allclose(table["dvars"][1:], plain, rtol=1e-3) and np.allclose(table["std_dvars"][1:], standardised, rtol=1e-3)
    step = np.abs(parameters[7] - parameters[6])
    assert table["framewise_displacement"][7] == pytest.approx(step[:3].sum() + 50 * step[3:].sum())
    assert abs(np.corrcoef(table["a_comp_cor_00"], planted)[0, 1]) > 0.95 and metadata["a_comp_cor_00"]["Mask"] == "combined"
    flagged = np.flatnonzero((table["framewise_displacement"] > 0.5) | (table["std_dvars"] > 1.5))
    assert len([c for c in table if c.startswith("motion_outlier")]) == len(flagged) > 0
    assert not {"cosine00", "csf_derivative1", "rot_z_derivative1_power2", "global_signal"} - set(table)


def test_output_grid_is_fmripreps() -> None:
    """TemplateFlow's MNI152NLin2009cAsym at res-2."""
    shape, affine = output_grid(2)
    assert shape == (97, 115, 97) and affine[:3, 3].tolist() == [-96.5, -132.5, -78.5]
    assert output_grid(6)[0] == (33, 39, 33)


def experiment(root: Path, **preprocessing: Any) -> Config:
    return parse_config(
        {
            "datasets": {"had": {"bids_dir": str(root / "raw"), "train_subjects": ["01"], "title": "Test"}},
            "preprocessing": {"engine": "embedded", "space": SPACE, "resolution": 8.0, **preprocessing},
        }
    )


@pytest.fixture(scope="module")
def derivatives(tmp_path_factory: pytest.TempPathFactory, run: tuple[np.ndarray, np.ndarray]) -> Path:
    """The whole embedded workflow on one subject."""
    root = tmp_path_factory.mktemp("embedded")
    write_raw(root, *run)
    preprocess(experiment(root), "had", "01", root / "derivatives", root / "work")
    assert not (root / "work").exists()
    return root / "derivatives"


def write_raw(root: Path, bold: np.ndarray, affine: np.ndarray) -> None:
    t1w, t1w_affine = scan("t1w", POSE, (72, 88, 76), 2.5, 12.0, 99)
    save_image(root / "raw/sub-01/anat/sub-01_T1w.nii.gz", t1w, t1w_affine)
    stem = root / "raw/sub-01/func/sub-01_task-action_run-01_bold"
    save_image(f"{stem}.nii.gz", bold, affine, tr=TR)
    Path(f"{stem}.json").write_text(json.dumps({"RepetitionTime": TR, "TaskName": "action"}))


def test_derivatives_lie_on_the_template(derivatives: Path) -> None:
    """The known pose is undone: within 2 mm on average, and the brain mask is the template's."""
    field = nib.load(next(derivatives.rglob("*_from-T1w_to-*_xfm.nii.gz")))
    shape, affine = output_grid(8)
    points = apply_affine(affine, np.indices(shape).reshape(3, -1))
    inside = load_template(shape, affine).mask.ravel()
    found = points + field.get_fdata().reshape(-1, 3).T * [[-1], [-1], [1]]
    error = np.linalg.norm(found - apply_affine(rigid(POSE, CENTRE), points), axis=0)[inside]
    assert error.mean() < 2
    mask = nib.load(next((derivatives / "sub-01/func").glob("*brain_mask.nii.gz"))).get_fdata().ravel() > 0
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.92


def test_derivatives_are_read_as_fmripreps(derivatives: Path, motion: np.ndarray) -> None:
    bold = derivatives / f"sub-01/func/sub-01_task-action_run-01_space-{SPACE}_res-8_desc-preproc_bold.nii.gz"
    table, _ = load_confounds(str(bold), strategy=["motion", "wm_csf", "high_pass", "compcor", "scrub"], motion="full", n_compcor=2)
    assert len(table) == N_VOLUMES
    parameters = pd.read_csv(next(bold.parent.glob("*timeseries.tsv")), sep="\t", na_values="n/a")
    jump = parameters["framewise_displacement"].argmax()
    assert jump == 18 and "motion_outlier00" in parameters
    assert np.corrcoef(parameters["trans_z"], motion[:, 2])[0, 1] > 0.98
    image = nib.load(bold)
    assert image.shape == (*output_grid(8)[0], N_VOLUMES) and image.header.get_zooms()[3] == TR
    description = json.loads((derivatives / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "Boldscribe embedded preprocessing"
    assert "susceptibility distortion correction" in json.loads(Path(str(bold).replace(".nii.gz", ".json")).read_text())["NotDone"]


def test_registration_repeats(tmp_path: Path) -> None:
    """ANTs gives the same bytes twice: one thread and its seed are set."""
    from boldscribe.preprocessing import anatomy

    template = load_template(*output_grid(12))
    brain, affine = scan("t1w", POSE, (45, 55, 47), 4.0, 12.0, 1)
    fields = []
    for name in ("one", "other"):
        registration = anatomy.register_to_template(brain, affine, template, str(tmp_path / name))
        fields.append(registration.template_to_t1w(brain_points().T))
    assert np.array_equal(*fields)


def test_user_error_passes_through_nipype(tmp_path: Path, run: tuple[np.ndarray, np.ndarray]) -> None:
    bold, affine = run
    write_raw(tmp_path, bold[..., :2], affine)
    t1w = tmp_path / "raw/sub-01/anat/sub-01_T1w.nii.gz"
    save_image(t1w, np.full((20, 20, 20), np.nan), np.eye(4))
    with pytest.raises(UserError, match="NaN or infinity") as error:
        preprocess_subject(experiment(tmp_path), "had", "01", tmp_path / "derivatives", tmp_path / "work")
    assert error.value.where == str(t1w.absolute()) and not (tmp_path / "derivatives").exists()


def test_bad_runs(tmp_path: Path, run: tuple[np.ndarray, np.ndarray]) -> None:
    bold, affine = run
    damaged = bold.copy()
    damaged[3, 3, 3, 5] = np.nan
    for name, data, message in (
        ("nan", damaged, r"1 volume\(s\) \(index 5\)"),
        ("short", bold[..., :7], "found 7, expected at least 20"),
    ):
        path = save_image(tmp_path / f"{name}.nii.gz", data, affine, tr=TR)
        with pytest.raises(UserError, match=message):
            steps.align_run(path, path, path, [], 2, TR, tmp_path)


def test_wrong_template(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"preprocessing\.space.*expected MNI152NLin2009aSym"):
        preprocess(experiment(tmp_path, space="MNI152NLin2009cAsym"), "had", "01", tmp_path, tmp_path / "work")
