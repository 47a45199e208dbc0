"""The embedded preprocessing on heads whose motion, pose and shape are known."""

from __future__ import annotations

import json
import subprocess
import sys
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

from boldscribe.config import Config
from boldscribe.data.images import apply_affine, image_data, load_image, repetition_time, save_image
from boldscribe.data.template import SPACE, load_template, output_grid
from boldscribe.machinery.errors import UserError
from boldscribe.models.embedded_models import package_file
from boldscribe.preprocessing import confounds, quality_figure, steps, susceptibility
from boldscribe.preprocessing.embedded import preprocess_subject
from boldscribe.preprocessing.engine import preprocess
from boldscribe.preprocessing.field_maps import PhaseDifference, field_map_of
from boldscribe.preprocessing.motion import Realigner, realign, rigid, rigid_parameters
from boldscribe.preprocessing.resampling import correct_slice_timing, resample_run

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


@pytest.mark.parametrize("name", ["fmri1", "fmri2"])
def test_real_bold_before_the_steady_state(name: str) -> None:
    """Boxes of 2 cm that nitime carries, whose first volume has another contrast: known motion is found, and nothing is led away."""
    image = load_image(package_file("nitime", f"data/{name}.nii.gz"), 4)
    bold, affine = image_data(image), image.affine
    assert bold.shape == (10, 10, 18, 40) and repetition_time(image) == pytest.approx(1.35)
    assert bold[..., 0].mean() < 0.91 * bold[..., 1].mean()
    before, parameters = realign(bold, affine)
    assert np.abs(parameters[:, :3]).max() < 1
    centre = apply_affine(affine, (np.array([bold.shape[:3]]).T - 1) / 2).ravel()
    known = np.cumsum(np.random.default_rng(1).normal(size=(40, 6)) * [0.15, 0.15, 0.15, 0.004, 0.004, 0.004], axis=0)
    added = [rigid(p - known[20], centre) for p in known]
    after, _ = realign(np.stack([pushed(bold[..., t], affine, m) for t, m in enumerate(added)], -1), affine)
    points = apply_affine(affine, np.argwhere(bold[..., 20] > bold.mean()).T)
    error = [
        np.linalg.norm(apply_affine(a, points) - apply_affine(m @ b, points), axis=0).mean()
        for a, m, b in zip(after, added, before, strict=True)
    ]
    assert max(np.linalg.norm(apply_affine(m, points) - points, axis=0).mean() for m in added) > 1.5
    assert np.mean(error) < 0.1 and max(error) < 0.4


def test_real_bold() -> None:
    """Three slices that nibabel carries: read, moved in their plane by known amounts, found again, and put back."""
    path = Path(nib.__file__).parent / "tests/data/functional.nii"
    image = load_image(path, 4)
    bold, affine = image_data(image), image.affine
    assert bold.shape == (17, 21, 3, 20) and repetition_time(image) == TR
    before, _ = realign(bold, affine)
    centre = apply_affine(affine, (np.array([bold.shape[:3]]).T - 1) / 2).ravel()
    known = np.zeros((20, 6))
    known[:, [0, 1, 5]] = np.cumsum(np.random.default_rng(1).normal(size=(20, 3)) * [0.4, 0.4, 0.01], axis=0)
    added = [rigid(p - known[10], centre) for p in known]
    moved = np.stack([pushed(bold[..., t], affine, m) for t, m in enumerate(added)], -1)
    after, _ = realign(moved, affine)
    points = apply_affine(affine, np.argwhere(bold[..., 10] > 3000).T)
    truth = [apply_affine(m @ b, points) for m, b in zip(added, before, strict=True)]
    error = [np.linalg.norm(apply_affine(a, points) - t, axis=0).max() for a, t in zip(after, truth, strict=True)]
    assert max(np.linalg.norm(apply_affine(m, points) - points, axis=0).mean() for m in added) > 1 and max(error) < 0.1
    inner = apply_affine(affine, np.argwhere(ndimage.binary_erosion(np.ones(bold.shape[:2]), iterations=4)[..., None] & np.ones(3, bool)).T)
    series, covered = resample_run(moved, affine, after, inner)
    straight, _ = resample_run(bold, affine, before, inner)
    assert (
        covered.all() and np.abs(series - straight).mean() < 0.5 * np.abs(resample_run(moved, affine, before, inner)[0] - straight).mean()
    )


def pushed(volume: np.ndarray, affine: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """A volume moved by a transform of world coordinates."""
    pull = np.linalg.inv(affine) @ np.linalg.inv(transform) @ affine
    return np.asarray(ndimage.affine_transform(volume, pull[:3, :3], pull[:3, 3], order=3, mode="mirror"))


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
    return Config.parse(
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
    write_distorted(root)
    preprocess(experiment(root), "had", "01", root / "derivatives", root / "work")
    assert not (root / "work").exists()
    return root / "derivatives"


def write_raw(root: Path, bold: np.ndarray, affine: np.ndarray) -> None:
    t1w, t1w_affine = scan("t1w", POSE, (72, 88, 76), 2.5, 12.0, 99)
    save_image(root / "raw/sub-01/anat/sub-01_T1w.nii.gz", t1w, t1w_affine)
    stem = root / "raw/sub-01/func/sub-01_task-action_run-01_bold"
    save_image(f"{stem}.nii.gz", bold, affine, tr=TR)
    Path(f"{stem}.json").write_text(json.dumps({"RepetitionTime": TR, "TaskName": "action"}))


def write_distorted(root: Path) -> None:
    """Run 02, distorted by `field_hz`, and the phase-difference map that is meant for it."""
    values, affine = head("bold")
    _, grid = scan("bold", POSE, (38, 44, 36), 5.0, 0, 0)
    voxels, spacing = np.indices((38, 44, 36)).reshape(3, -1).astype(float), 0.00016

    def seen(index: np.ndarray) -> np.ndarray:
        pull = np.linalg.inv(affine) @ np.linalg.inv(rigid(POSE, CENTRE)) @ grid
        return ndimage.map_coordinates(values, apply_affine(pull, index), order=3).reshape(38, 44, 36)

    def shift(index: np.ndarray) -> np.ndarray:
        return -spacing * 44 * field_hz(apply_affine(grid, index))

    true, half = voxels.copy(), np.array([[0.0], [0.5], [0.0]])
    for _ in range(40):
        true[1] = voxels[1] - shift(true)
    distorted = seen(true) / (1 + shift(true + half) - shift(true - half)).reshape(38, 44, 36)
    rng = np.random.default_rng(4)
    stem = root / "raw/sub-01/func/sub-01_task-action_run-02_bold"
    volumes = distorted[..., None] + rng.normal(0, 60, (*distorted.shape, 20))
    save_image(f"{stem}.nii.gz", volumes.astype(np.float32), grid, tr=TR)
    sidecar = {"RepetitionTime": TR, "TaskName": "action", "PhaseEncodingDirection": "j-", "EffectiveEchoSpacing": spacing}
    Path(f"{stem}.json").write_text(json.dumps(sidecar))
    fmap, noise = root / "raw/sub-01/fmap/sub-01", rng.normal(0, 200, (4, *distorted.shape))
    turning = 2j * np.pi * field_hz(apply_affine(grid, voxels)).reshape(distorted.shape)
    first, second = (seen(voxels) * np.exp(turning * t) + noise[2 * i] + 1j * noise[2 * i + 1] for i, t in enumerate(ECHO_TIMES))
    save_image(f"{fmap}_phasediff.nii.gz", np.angle(second * first.conj()) / np.pi * 4095, grid, dtype="int16")
    save_image(f"{fmap}_magnitude1.nii.gz", np.abs(first), grid, dtype="int16")
    about = {"EchoTime1": ECHO_TIMES[0], "EchoTime2": ECHO_TIMES[1], "IntendedFor": f"func/{stem.name}.nii.gz"}
    Path(f"{fmap}_phasediff.json").write_text(json.dumps(about))


def test_the_field_map_corrects_the_run_it_is_meant_for(derivatives: Path) -> None:
    """Where run 02 was shifted by more than a voxel it looks as run 01, which was not distorted; the sidecars say what was done."""
    func = derivatives / "sub-01/func"
    sidecars = [json.loads(next(func.glob(f"*run-{run}*preproc_bold.json")).read_text()) for run in ("01", "02")]
    assert "Done" not in sidecars[0] and sidecars[1]["Done"][0].startswith("susceptibility distortion correction")
    assert not [line for line in sidecars[1]["NotDone"] if "susceptibility" in line]
    assert "bids::sub-01/fmap/sub-01_phasediff.nii.gz" in sidecars[1]["Sources"]
    shape, affine = output_grid(8)
    scanner = apply_affine(rigid(POSE, CENTRE), apply_affine(affine, np.indices(shape).reshape(3, -1)))
    strong = (0.00016 * 44 * field_hz(scanner) > 1) & load_template(shape, affine).mask.ravel()
    straight, corrected = (nib.load(next(func.glob(f"*run-{run}*boldref.nii.gz"))).get_fdata().ravel()[strong] for run in ("01", "02"))
    assert strong.sum() > 50 and np.corrcoef(straight, corrected)[0, 1] > 0.9
    assert np.abs(corrected - straight).mean() < 0.1 * straight.mean()


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
    parameters = pd.read_csv(next(bold.parent.glob("*run-01*timeseries.tsv")), sep="\t", na_values="n/a")
    jump = parameters["framewise_displacement"].argmax()
    assert jump == 18 and "motion_outlier00" in parameters
    assert np.corrcoef(parameters["trans_z"], motion[:, 2])[0, 1] > 0.98
    image = nib.load(bold)
    assert image.shape == (*output_grid(8)[0], N_VOLUMES) and image.header.get_zooms()[3] == TR
    description = json.loads((derivatives / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "Boldscribe embedded preprocessing"
    not_done = json.loads(Path(str(bold).replace(".nii.gz", ".json")).read_text())["NotDone"]
    assert not_done[0] == "susceptibility distortion correction: no phase-difference map for this run"


def test_quality_figure(derivatives: Path, tmp_path: Path) -> None:
    """One per run, of the same bytes when it is drawn again."""
    stem, space = "sub-01_task-action_run-01", f"_space-{SPACE}_res-8"
    drawn = derivatives / f"sub-01/figures/{stem}_desc-qc_bold.png"
    func, anat = derivatives / "sub-01/func", derivatives / "sub-01/anat"
    mask = nib.load(func / f"{stem}{space}_desc-brain_mask.nii.gz").get_fdata() > 0
    series = nib.load(func / f"{stem}{space}_desc-preproc_bold.nii.gz").get_fdata(dtype=np.float32)[mask]
    images = {"mean BOLD": func / f"{stem}{space}_boldref.nii.gz", "T1w": anat / f"sub-01{space}_desc-preproc_T1w.nii.gz"}
    volumes = {name: nib.load(path).get_fdata(dtype=np.float32) for name, path in images.items()}
    table = pd.read_csv(func / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
    template = load_template(*output_grid(8))
    drawings = [
        quality_figure.draw(tmp_path / f"{i}.png", t, series, mask, volumes, template, TR, f"{stem}_bold.nii.gz").read_bytes()
        for i, t in enumerate((table, table))
    ]
    assert drawings[0] == drawings[1]
    assert drawn.read_bytes().startswith(b"\x89PNG") and b"tIME" not in drawings[0] and b"matplotlib" not in drawings[0]


def test_the_bids_validator_takes_the_derivatives(derivatives: Path) -> None:
    validator = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run([validator, "--json", str(derivatives)], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert done.returncode == 0, [i for i in issues if i["severity"] == "error"]


FIELD_AFFINE = np.array([[-3.0, 0, 0, 84.0], [0, 3.0, 0, -108.0], [0, 0, 3.0, -75.0], [0, 0, 0, 1.0]])
FIELD_SHAPE = (56, 72, 50)
ECHO_TIMES = (0.00492, 0.00738)


def field_hz(points_3N: np.ndarray) -> np.ndarray:
    """A bump above the frontal sinus that turns the phase difference more than once, and a slope."""
    return 420 * np.exp(-np.square(points_3N - np.array([[0], [45], [-10]])).sum(axis=0) / (2 * 18**2)) + 0.6 * points_3N[1]


@pytest.fixture(scope="module")
def phase_difference() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phase (as a Siemens scanner stores it), magnitude and head of a field map, with noise everywhere."""
    points = apply_affine(FIELD_AFFINE, np.indices(FIELD_SHAPE).reshape(3, -1))
    head = (np.square(points / [[66], [86], [66]]).sum(axis=0) < 1).reshape(FIELD_SHAPE)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 25, (4, *FIELD_SHAPE))
    turning = 2j * np.pi * field_hz(points).reshape(FIELD_SHAPE)
    first, second = (800 * head * np.exp(turning * t) + noise[2 * i] + 1j * noise[2 * i + 1] for i, t in enumerate(ECHO_TIMES))
    phase = np.round(np.angle(second * first.conj()) / np.pi * 2047) * 2
    return phase.astype(np.float32), np.abs(first).astype(np.float32), ndimage.binary_erosion(head, iterations=2)


def test_unwrapping_recovers_whole_turns(phase_difference: tuple[np.ndarray, ...]) -> None:
    phase, _, head = phase_difference
    radians = susceptibility.to_radians(phase)
    assert np.abs(radians).max() == pytest.approx(np.pi, rel=1e-6)
    points = apply_affine(FIELD_AFFINE, np.argwhere(head).T)
    truth = 2 * np.pi * (ECHO_TIMES[1] - ECHO_TIMES[0]) * field_hz(points)
    assert np.ptp(truth) > 2 * np.pi
    assert np.abs(susceptibility.unwrap(radians, head)[head] - truth).max() < 0.5


@pytest.mark.parametrize("direction", ["j", "j-"])
def test_distortion_is_undone(phase_difference: tuple[np.ndarray, ...], direction: str) -> None:
    """A grid of stripes, distorted by the true field: undone with the map and the right sign, made worse with the other."""
    phase, magnitude, head = phase_difference
    hertz = susceptibility.field_map(susceptibility.to_radians(phase), magnitude, head, FIELD_AFFINE, ECHO_TIMES)
    readout = PhaseDifference(Path(), Path(), ECHO_TIMES, None, direction, None, 0.00025 * (FIELD_SHAPE[1] - 1)).readout(FIELD_SHAPE)
    sign = 1 if direction == "j" else -1
    assert readout == (1, pytest.approx(sign * 0.00025 * FIELD_SHAPE[1]))
    voxels = np.indices(FIELD_SHAPE).reshape(3, -1).astype(float)

    def shift(index: np.ndarray) -> np.ndarray:
        return readout[1] * field_hz(apply_affine(FIELD_AFFINE, index))

    def pattern(index: np.ndarray) -> np.ndarray:
        return 1000 + 400 * np.sin(index[1] / 2.2) * np.cos(index[0] / 5)

    true = voxels.copy()
    for _ in range(40):
        true[1] = voxels[1] - shift(true)
    half = np.array([[0.0], [0.5], [0.0]])
    distorted = (pattern(true) / (1 + shift(true + half) - shift(true - half))).reshape(FIELD_SHAPE).astype(np.float32)
    found = susceptibility.distortion_of_field(hertz, FIELD_AFFINE, np.eye(4), FIELD_SHAPE, FIELD_AFFINE, susceptibility.Readout(*readout))
    left = np.abs(found.shift.ravel() - shift(voxels))[head.ravel()] * 3.0
    before = np.abs(shift(voxels))[head.ravel()] * 3.0
    assert before.max() > 15 and before.mean() > 2 and left.mean() < 0.1 and left.max() < 1
    error = [
        np.abs(image - pattern(voxels).reshape(FIELD_SHAPE))[head].mean()
        for image in (found.undo(distorted), distorted, susceptibility.Distortion(1, -found.shift).undo(distorted))
    ]
    assert error[0] < 0.1 * error[1] and error[1] < error[2]


def test_which_field_map_corrects_a_run(tmp_path: Path) -> None:
    """By identifier, by intention, by being the only one; and what is said where something lacks."""
    raw, session = tmp_path, tmp_path / "sub-01/ses-a"
    bold = session / "func/sub-01_ses-a_task-action_run-02_bold.nii.gz"
    (session / "fmap").mkdir(parents=True)
    sidecar = {"PhaseEncodingDirection": "j-", "EffectiveEchoSpacing": 0.0005}

    def write(run: str, **about: Any) -> Path:
        stem = session / f"fmap/sub-01_ses-a_run-{run}"
        for suffix in ("phasediff", "magnitude1"):
            Path(f"{stem}_{suffix}.nii.gz").touch()
        Path(f"{stem}_phasediff.json").write_text(json.dumps({"EchoTime1": 0.005, "EchoTime2": 0.0075, **about}))
        return Path(f"{stem}_phasediff.nii.gz")

    def chosen(**change: Any) -> Path | str:
        found = field_map_of(bold, raw, {k: v for k, v in (sidecar | change).items() if v is not None})
        return found.phase if isinstance(found, PhaseDifference) else found

    assert chosen() == "no phase-difference map for this run"
    other = write("01", IntendedFor=[f"ses-a/func/{bold.name.replace('02', '01')}"])
    assert chosen() == "no phase-difference map for this run"
    mine = write("02", IntendedFor=f"bids::sub-01/ses-a/func/{bold.name}", B0FieldIdentifier="b0")
    assert chosen() == mine and chosen(B0FieldSource=["b0"]) == mine and chosen(B0FieldSource="b1") != mine
    assert chosen(PhaseEncodingDirection=None) == "no PhaseEncodingDirection in the sidecar"
    assert chosen(EffectiveEchoSpacing=None) == "neither EffectiveEchoSpacing nor TotalReadoutTime in the sidecar"
    mine.with_name(mine.name.replace("phasediff", "magnitude1")).unlink()
    assert "magnitude1.nii.gz next to" in str(chosen())
    write("02", EchoTime1=None)
    other.unlink()
    assert "no EchoTime1 and EchoTime2" in str(chosen())


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
            steps.motion(tmp_path, str(path))
    path = save_image(tmp_path / "run.nii.gz", bold, affine, tr=TR)
    with pytest.raises(UserError, match="found 3 times in the sidecar, expected 36"):
        steps.slice_timing(tmp_path, str(path), [0.0, 0.5, 1.0], 2, TR)


def test_wrong_template(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"preprocessing\.space.*expected MNI152NLin2009aSym"):
        preprocess(experiment(tmp_path, space="MNI152NLin2009cAsym"), "had", "01", tmp_path, tmp_path / "work")
