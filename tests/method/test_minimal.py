"""Raw BOLD through ready transforms: a head whose warp, pose, motion and distortion are known, in fMRIPrep's files and formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from scipy import ndimage

from boldscribe.config import Config, check_experiment
from boldscribe.data.checks import raw_manifest, validate_raw
from boldscribe.data.images import apply_affine, save_image
from boldscribe.data.series import write_series
from boldscribe.data.template import load_template, output_grid
from boldscribe.data.transforms import read_affines, transform_problems
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing import minimal
from boldscribe.preprocessing.engine import preprocess
from boldscribe.preprocessing.itk import FLIP, ants, grid_points, transform_points
from boldscribe.preprocessing.motion import rigid
from tests.method.test_preprocessing import CENTRE, head

SPACE, RESOLUTION, TR, N_VOLUMES = "MNI152NLin2009cAsym", 6.0, 2.0, 24
SUBJECT = "sub-01/ses-action01"
RUN = f"{SUBJECT}/func/sub-01_ses-action01_task-action_run-0"
ANATOMY = f"{SUBJECT}/anat/sub-01_ses-action01_run-01_"
TO_T1W = rigid(np.array([2.0, -3.0, 4.0, 0.05, -0.03, 0.04]), CENTRE) @ np.diag([1.06, 0.97, 1.03, 1.0])
TO_BOLDREF = rigid(np.array([-3.0, 5.0, 2.0, -0.08, 0.05, 0.06]), CENTRE)  # T1w to BOLD reference
TO_FIELDMAP = rigid(np.array([1.0, 2.0, -2.0, 0.03, 0.02, -0.04]), CENTRE)  # BOLD reference to field map
READOUT = 0.05
BOLD_SHAPE, BOLD_ZOOM = (40, 46, 38), 5.0

Points = np.ndarray


def displaced(points: Points) -> Points:
    """The smooth part of the warp, template to T1w: (3, N) mm to (3, N) mm."""
    x, y, z = points / 15
    return points + np.stack([3 * np.sin(y), 2.5 * np.cos(z), 3 * np.sin(x)])


def warped(points: Points) -> Points:
    return apply_affine(TO_T1W, displaced(points))


def solved(function: Callable[[Points], Points], wanted: Points) -> Points:
    """Where a function that moves points a little gives the wanted ones."""
    points = wanted.copy()
    for _ in range(12):
        points = points - (function(points) - wanted)
    return points


def unwarped(points: Points) -> Points:
    return solved(displaced, apply_affine(np.linalg.inv(TO_T1W), points))


def field(points: Points) -> Points:
    """Hz at points of the field map's space."""
    return 18 * np.sin(points[1] / 25) * np.cos(points[2] / 30)


def shift(points: Points) -> Points:
    """Voxels that the scanner moves the signal of points of the BOLD reference: along `j-`."""
    return -READOUT * field(apply_affine(TO_FIELDMAP, points))


def motion() -> np.ndarray:
    walk = np.cumsum(np.random.default_rng(3).normal(size=(N_VOLUMES, 6)) * [0.1, 0.1, 0.1, 0.0012, 0.0012, 0.0012], axis=0)
    return np.stack([rigid(p, CENTRE) for p in walk - walk[N_VOLUMES // 2]])


def grid(shape: tuple[int, ...], zoom: float) -> np.ndarray:
    """Affine of a grid about the head, its first axis to the left, tilted as HAD's BOLD is."""
    affine = np.diag([-zoom, zoom, zoom, 1.0])
    affine[:3, :3] = rigid(np.array([0, 0, 0, 0.2, 0, 0]), CENTRE)[:3, :3] @ affine[:3, :3]
    affine[:3, 3] = CENTRE - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def values_at(points: Points, values: np.ndarray, affine: np.ndarray, order: int = 3) -> np.ndarray:
    """Values at world points; with order 3 from spline coefficients."""
    index = apply_affine(np.linalg.inv(affine), points)
    return ndimage.map_coordinates(values, index, order=order, output=np.float32, prefilter=False)


@cache
def bold_head() -> tuple[np.ndarray, np.ndarray]:
    """Spline coefficients of a head as smooth as voxels of 5 mm can show it."""
    values, affine = head("bold")
    return ndimage.spline_filter(ndimage.gaussian_filter(values, 1.8), output=np.float32), affine


def itk_text(matrices: np.ndarray) -> str:
    """As nitransforms writes them for fMRIPrep: six digits, a blank line between transforms."""
    blocks = []
    for i, matrix in enumerate(FLIP @ matrices @ FLIP):
        numbers = " ".join(f"{v:g}" for v in [*matrix[:3, :3].ravel(), *matrix[:3, 3]])
        blocks.append(f"#Transform {i}\nTransform: AffineTransform_float_3_3\nParameters: {numbers}\nFixedParameters: 0 0 0\n")
    return "#Insight Transform File V1.0\n" + "\n".join(blocks)


def write_composite(path: Path) -> None:
    """The warp as ANTs writes it: ITK's composite of a displacement field and an affine."""
    shape, affine = output_grid(3)
    points = grid_points(shape, affine).T
    vectors = (displaced(points) - points) * [[-1], [-1], [1]]
    lps = FLIP @ affine
    image = ants.from_numpy(
        vectors.T.reshape(*shape, 3).astype(np.float32), lps[:3, 3].tolist(), [3.0] * 3, lps[:3, :3] / 3, has_components=True
    )
    matrix = FLIP @ TO_T1W @ FLIP
    linear = ants.create_ants_transform("AffineTransform", dimension=3, matrix=matrix[:3, :3], translation=matrix[:3, 3])
    ants.write_transform(ants.compose_ants_transforms([ants.transform_from_displacement_field(image), linear]), str(path))


def write_anatomy(root: Path) -> None:
    write_composite(root / f"{ANATOMY}from-T1w_to-{SPACE}_mode-image_xfm.h5")
    shape, template_affine = output_grid(2)
    template = load_template(shape, template_affine)
    affine = grid((66, 80, 68), 3.0)
    points = unwarped(grid_points((66, 80, 68), affine).T)
    for name, content in (("desc-brain_mask", template.mask), ("label-WM_probseg", template.wm), ("label-CSF_probseg", template.csf)):
        values = values_at(points, content.astype(np.float32), template_affine, order=1).reshape(66, 80, 68)
        save_image(root / f"{ANATOMY}{name}.nii.gz", (values > 0.5).astype(np.uint8) if "mask" in name else values, affine)


def write_runs(root: Path, raw: Path) -> None:
    """Run 1 is distorted and has slice times and a field map; run 2 has none of them."""
    affine = grid(BOLD_SHAPE, BOLD_ZOOM)
    points, along = grid_points(BOLD_SHAPE, affine).T, affine[:3, 1, None]
    values, head_affine = bold_head()
    for run, distorted in ((1, True), (2, False)):
        volumes = []
        for t, moved in enumerate(motion()):
            still = solved(lambda p, m=moved: apply_affine(m, p) + along * shift(p), points) if distorted else points
            still = still if distorted else apply_affine(np.linalg.inv(moved), points)
            stretch = 1 + shift(still + along / 2) - shift(still - along / 2) if distorted else 1
            seen = values_at(unwarped(apply_affine(np.linalg.inv(TO_BOLDREF), still)), values, head_affine) / stretch
            volumes.append(seen.reshape(BOLD_SHAPE) + np.random.default_rng(t).normal(0, 30, BOLD_SHAPE))
        bold = np.stack(volumes, axis=-1).astype(np.float32)
        save_image(f"{raw / RUN}{run}_bold.nii.gz", bold, affine, tr=TR)
        sidecar = {"RepetitionTime": TR, "TaskName": "action"}
        if distorted:
            sidecar |= {"SliceTiming": np.linspace(0, 0.2, BOLD_SHAPE[2]).tolist()}
            sidecar |= {"PhaseEncodingDirection": "j-", "TotalReadoutTime": READOUT}
        Path(f"{raw / RUN}{run}_bold.json").write_text(json.dumps(sidecar))
        save_image(f"{root / RUN}{run}_desc-hmc_boldref.nii.gz", bold[..., N_VOLUMES // 2], affine)
        Path(f"{root / RUN}{run}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt").write_text(itk_text(motion()))
        Path(f"{root / RUN}{run}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt").write_text(itk_text(TO_BOLDREF[None]))
    Path(f"{root / RUN}1_from-boldref_to-auto00000_mode-image_xfm.txt").write_text(itk_text(np.linalg.inv(TO_FIELDMAP)[None]))
    shape = (60, 70, 60)
    fieldmap = field(grid_points(shape, grid(shape, 4.0)).T).reshape(shape)
    save_image(
        root / f"{SUBJECT}/fmap/sub-01_ses-action01_run-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz", fieldmap, grid(shape, 4.0)
    )


def experiment(root: Path, space: str = SPACE) -> Config:
    dataset = {"bids_dir": str(root / "raw"), "derivatives_dir": str(root / "ready"), "session": "action01", "train_subjects": ["01"]}
    return Config.parse({"datasets": {"had": dataset}, "preprocessing": {"engine": "minimal", "space": space, "resolution": RESOLUTION}})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`raw` and `ready`: a subject as OpenNeuroDerivatives has it."""
    folder = tmp_path_factory.mktemp("minimal")
    for name in ("raw", "ready"):
        (folder / name / SUBJECT / "anat").mkdir(parents=True)
        (folder / name / SUBJECT / "func").mkdir()
        maker = {"GeneratedBy": [{"Name": "fMRIPrep", "Version": "23.2.0"}]} if name == "ready" else {}
        (folder / name / "dataset_description.json").write_text(json.dumps({"Name": "HAD", "BIDSVersion": "1.4.0", **maker}))
    write_anatomy(folder / "ready")
    write_runs(folder / "ready", folder / "raw")
    return folder


@pytest.fixture(scope="module")
def made(root: Path) -> Path:
    preprocess(experiment(root), "had", "01", root / "made", root / "work")
    assert not (root / "work").exists() and not list((root / "made").glob(".*.part"))
    return root / "made"


def of_run(made: Path, run: int, ending: str) -> Path:
    return Path(f"{made / RUN}{run}_{ending}")


def test_matrices_are_itks(root: Path, tmp_path: Path) -> None:
    """Points go the same way through our matrices and, file by file, through ITK: template, T1w, reference, volume."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-60, 60, (200, 3))
    composite = str(root / "ready" / f"{ANATOMY}from-T1w_to-{SPACE}_mode-image_xfm.h5")
    t1w = transform_points(points, [composite], [False])
    assert np.linalg.norm(t1w.T - warped(points.T), axis=0).max() < 0.1
    coregistration = Path(f"{root / 'ready' / RUN}1_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt")
    affines = read_affines(Path(f"{root / 'ready' / RUN}1_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"))
    assert affines.shape == (N_VOLUMES, 4, 4) and np.allclose(affines, motion(), atol=1e-3)
    one = tmp_path / "volume.txt"
    for t in (0, N_VOLUMES - 1):
        one.write_text(itk_text(affines[t : t + 1]).replace("FixedParameters: 0 0 0", "FixedParameters: 10 -20 30"))
        # ANTs lists the transforms of points first to last
        by_itk = transform_points(points, [composite, str(coregistration), str(one)], [False] * 3)
        ours = apply_affine(read_affines(one)[0] @ read_affines(coregistration)[0], t1w.T)
        assert np.abs(by_itk.T - ours).max() < 1e-3


def test_points_of_the_grid(root: Path) -> None:
    """Every voxel of the output, sent to the distorted scanner, arrives within half a millimetre of where the head's point lies."""
    ready, raw = root / "ready", root / "raw"
    found, _ = minimal.load_grid(ready, "01", SPACE, RESOLUTION)
    points = grid_points(found.shape, found.affine).T
    inside = found.brain > 0.5
    transforms = minimal.find_run(ready, raw, of_run(raw, 1, "bold.nii.gz"))
    reference = apply_affine(read_affines(transforms.to_t1w)[0], found.t1w_points_3N)
    affine = grid(BOLD_SHAPE, BOLD_ZOOM)
    sidecar = {"PhaseEncodingDirection": "j-", "EffectiveEchoSpacing": READOUT / (BOLD_SHAPE[1] - 1)}
    distortion, _ = minimal.run_distortion(affine, BOLD_SHAPE, transforms, sidecar)
    assert distortion is not None
    truth = apply_affine(TO_BOLDREF, warped(points))
    pushed = affine[:3, 1, None] * shift(truth)
    assert np.linalg.norm(pushed[:, inside], axis=0).max() > 3
    error = np.linalg.norm(reference + affine[:3, :3] @ distortion.at(affine, reference)[0] - truth - pushed, axis=0)[inside]
    assert error.max() < 0.5
    assert found.shape == output_grid(RESOLUTION)[0] and inside.sum() > 5000


def test_runs_lie_on_the_head(made: Path) -> None:
    """Both runs, the distorted one too, show the head of the template, and its motion is gone."""
    values, head_affine = bold_head()
    shape, affine = output_grid(RESOLUTION)
    direct = values_at(grid_points(shape, affine).T, values, head_affine)
    for run, corrected in ((1, True), (2, False)):
        bold = nib.load(of_run(made, run, f"space-{SPACE}_res-6_desc-preproc_bold.nii.gz"))
        brain = nib.load(of_run(made, run, f"space-{SPACE}_res-6_desc-brain_mask.nii.gz")).get_fdata().ravel() > 0
        series = bold.get_fdata(dtype=np.float32).reshape(-1, N_VOLUMES)
        assert np.allclose(bold.affine, affine) and bold.header.get_zooms()[3] == TR
        correlations = [np.corrcoef(direct[brain], series[brain, t])[0, 1] for t in range(N_VOLUMES)]
        assert min(correlations) > 0.99
        # intensities are those of the undistorted head
        assert np.median(np.abs(series[brain].mean(axis=1) / direct[brain] - 1)) < 0.005
        sidecar = json.loads(of_run(made, run, f"space-{SPACE}_res-6_desc-preproc_bold.json").read_text())
        assert sidecar["SusceptibilityDistortionCorrection"] is corrected and sidecar["SliceTimingCorrected"] is corrected
        assert sidecar["StartTime"] == pytest.approx(0.1 if corrected else 0)
        assert f"bids:transforms:{RUN}{run}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt" in sidecar["Sources"]
    assert "no field map" in sidecar["SusceptibilityDistortionCorrectionNote"]
    description = json.loads((made / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == minimal.GENERATOR and "fMRIPrep 23.2.0" in str(description["SourceDatasets"])
    assert (made / description["DatasetLinks"]["transforms"]).resolve() == (made.parent / "ready").resolve()


def test_what_reads_derivatives_reads_these(made: Path, root: Path, tmp_path: Path) -> None:
    bold = of_run(made, 1, f"space-{SPACE}_res-6_desc-preproc_bold.nii.gz")
    table, _ = load_confounds(str(bold), strategy=["motion", "wm_csf", "high_pass", "compcor", "scrub"], motion="full", n_compcor=2)
    assert len(table) == N_VOLUMES
    confounds = pd.read_csv(of_run(made, 1, "desc-confounds_timeseries.tsv"), sep="\t", na_values="n/a")
    moved = np.array([np.linalg.norm(m[:3, :3] @ CENTRE + m[:3, 3] - CENTRE) for m in motion()])
    found = np.linalg.norm(confounds[["trans_x", "trans_y", "trans_z"]], axis=1)
    assert np.corrcoef(found, moved)[0, 1] > 0.95
    config = experiment(root)
    write_series(config, config.datasets["had"], "had", "01", made, tmp_path / "sub-01_bold.npy")
    series = np.load(tmp_path / "sub-01_bold.npy", mmap_mode="r")
    assert series.shape[0] == 2 * N_VOLUMES and series.shape[1] > 5000 and np.isfinite(series).all()


def test_repeats(made: Path, root: Path, tmp_path: Path) -> None:
    preprocess(experiment(root), "had", "01", tmp_path / "made", tmp_path / "work")
    files = [p.relative_to(made) for p in made.rglob("*") if p.is_file() and p.name != "dataset_description.json"]
    assert len(files) > 12
    assert all((made / f).read_bytes() == (tmp_path / "made" / f).read_bytes() for f in files)


HMC = f"{RUN}1_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"
COREGISTRATION = f"{RUN}2_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
FIELDMAP = f"{SUBJECT}/fmap/sub-01_ses-action01_run-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz"
WARP = f"{ANATOMY}from-T1w_to-{SPACE}_mode-image_xfm.h5"


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../.git/annex/objects/MD5E-s31303--0")


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": (HMC, Path.unlink, "the file does not exist, and the engine 'minimal' needs it"),
    "link": (COREGISTRATION, _link, "found a link to missing content"),
    "empty": (WARP, lambda p: p.write_bytes(b""), "found 0 bytes"),
    "pointer": (HMC, lambda p: p.write_text("/annex/objects/MD5E-s31303--49a7.txt\n"), "found a pointer to missing content"),
    "cut off": (WARP, lambda p: p.write_bytes(p.read_bytes()[:90000]), "found 90000 bytes, expected"),
    "no warp": (WARP, lambda p: p.write_text("not found" * 20), "found no HDF5 file"),
    "short": (HMC, lambda p: p.write_text(itk_text(motion()[1:])), "found 23 transforms, expected 24, one for each volume"),
    "not ITK": (HMC, lambda p: p.write_text("1 0 0 0\n"), "found no transform, expected ITK's text format"),
    "not affine": (HMC, lambda p: p.write_text(itk_text(motion()).replace("Affine", "Euler3D")), "found Euler3DTransform_float_3_3"),
    "other image": (
        f"{RUN}2_desc-hmc_boldref.nii.gz",
        lambda p: save_image(p, np.zeros((9, 9, 9)), np.eye(4)),
        r"grid: found a grid of 9 x 9 x 9 .*expected a grid of 40 x 46 x 38",
    ),
    "no field map": (FIELDMAP, Path.unlink, "the file does not exist, and the engine 'minimal' needs it"),
    "field map cut off": (FIELDMAP, lambda p: p.write_bytes(p.read_bytes()[:5000]), "the data cannot be read"),
    "NaN in the field map": (FIELDMAP, lambda p: save_image(p, np.full((4, 4, 4), np.nan), np.eye(4)), "found NaN or infinity"),
    "empty mask": (f"{ANATOMY}desc-brain_mask.nii.gz", lambda p: save_image(p, np.zeros((4, 4, 4)), np.eye(4)), "found none above 0"),
    "tissue cut off": (f"{ANATOMY}label-CSF_probseg.nii.gz", lambda p: p.write_bytes(p.read_bytes()[:900]), "the data cannot be read"),
    "two field maps": (
        f"{RUN}1_from-boldref_to-auto00001_mode-image_desc-fmap_xfm.txt",
        lambda p: p.write_text(itk_text(np.eye(4)[None])),
        "found transforms of .* to auto00000 and auto00001, expected one",
    ),
    "no tissue": (f"{ANATOMY}label-WM_probseg.nii.gz", Path.unlink, r"found no anat/\*_label-WM_probseg.nii.gz"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_preflight(fault: str, root: Path, tmp_path: Path) -> None:
    """Each fault is named with its file and what to do, before anything is computed or written."""
    name, damage, message = FAULTS[fault]
    shutil.copytree(root / "ready", tmp_path / "ready")
    (tmp_path / "raw").symlink_to(root / "raw")
    damage(tmp_path / "ready" / name)
    with pytest.raises(UserError, match=message) as error:
        preprocess(experiment(tmp_path), "had", "01", tmp_path / "made", tmp_path / "work")
    assert fault in ("no tissue", "no field map", "two field maps") or name in str(error.value)
    assert not (tmp_path / "made").exists() and not (tmp_path / "work").exists()


@pytest.mark.parametrize("image", ["bold", "echo-1_bold", "echo-2_part-mag_bold"])
@pytest.mark.parametrize("names", [("",), ("_desc-fmap",), ("", "_desc-fmap")])
def test_the_field_map_of_a_run_under_both_names(tmp_path: Path, names: tuple[str, ...], image: str) -> None:
    """Until fMRIPrep 25.1 without, since 25.2 with `desc-fmap`; of all echoes and parts."""
    (tmp_path / "ready" / RUN).parent.mkdir(parents=True)
    (tmp_path / "ready" / SUBJECT / "fmap").mkdir()
    stem = f"{tmp_path / 'ready' / RUN}1_from-boldref_to-"
    for other in ("T1w_mode-image_desc-coreg", "T1w_mode-image", *(f"auto00002_mode-image{name}" for name in names)):
        Path(f"{stem}{other}_xfm.txt").touch()
    for other in ("auto00000", "auto00002"):
        (tmp_path / "ready" / SUBJECT / f"fmap/sub-01_ses-action01_fmapid-{other}_desc-preproc_fieldmap.nii.gz").touch()
    found = minimal.find_run(tmp_path / "ready", tmp_path / "raw", of_run(tmp_path / "raw", 1, f"{image}.nii.gz"))
    assert found.to_fieldmap == Path(f"{stem}auto00002_mode-image{names[-1]}_xfm.txt")
    assert found.fieldmap is not None and found.fieldmap.name == "sub-01_ses-action01_fmapid-auto00002_desc-preproc_fieldmap.nii.gz"
    assert found.motion.name == "sub-01_ses-action01_task-action_run-01_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"


def test_a_run_is_corrected_by_the_field_map_of_newer_fmriprep(root: Path, tmp_path: Path) -> None:
    old, affine = Path(f"{root / 'ready' / RUN}1_from-boldref_to-auto00000_mode-image_xfm.txt"), grid(BOLD_SHAPE, BOLD_ZOOM)
    sidecar = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": None, "EffectiveEchoSpacing": READOUT / (BOLD_SHAPE[1] - 1)}
    (tmp_path / "raw").symlink_to(root / "raw")
    shutil.copytree(root / "ready" / SUBJECT / "fmap", tmp_path / "ready" / SUBJECT / "fmap")
    new = tmp_path / "ready" / SUBJECT / "func" / old.name.replace("mode-image", "mode-image_desc-fmap")
    new.parent.mkdir()
    shutil.copy(old, new)
    points = np.zeros((3, 1)) + CENTRE[:, None]
    moved = []
    for folder in (root, tmp_path):
        transforms = minimal.find_run(folder / "ready", folder / "raw", of_run(folder / "raw", 1, "bold.nii.gz"))
        distortion, why_not = minimal.run_distortion(affine, BOLD_SHAPE, transforms, sidecar)
        assert distortion is not None and not why_not
        moved.append(distortion.at(affine, points)[0])
    np.testing.assert_array_equal(*moved)
    with pytest.raises(UserError, match="TotalReadoutTime: found 'short'"):
        minimal.run_distortion(affine, BOLD_SHAPE, transforms, sidecar | {"TotalReadoutTime": "short"})
    assert minimal.run_distortion(affine, BOLD_SHAPE, transforms, {"PhaseEncodingDirection": None})[0] is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"SliceTiming": [0.0, 0.1]}, "SliceTiming: found 2 times in the sidecar, expected 38"),
        ({"SliceTiming": "even"}, "SliceTiming: found even in its JSON sidecar"),
        ({"SliceEncodingDirection": "up"}, "SliceEncodingDirection: found 'up'"),
        ({"RepetitionTime": "2"}, "RepetitionTime: found '2'"),
        ({"TotalReadoutTime": "short"}, "TotalReadoutTime: found 'short'"),
        ({"TotalReadoutTime": None, "EffectiveEchoSpacing": [1]}, r"EffectiveEchoSpacing: found \[1\]"),
    ],
)
def test_unusable_sidecars_are_named_by_the_preflight(root: Path, tmp_path: Path, entries: dict[str, object], message: str) -> None:
    shutil.copytree(root / "raw", tmp_path / "raw")
    (tmp_path / "ready").symlink_to(root / "ready")
    path = Path(f"{tmp_path / 'raw' / RUN}1_bold.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(UserError, match=message):
        validate_raw(experiment(tmp_path), "had")


def test_other_space(root: Path) -> None:
    runs = {"01": of_run(root / "raw", 1, "bold.nii.gz")}
    problems = transform_problems(root / "ready", root / "raw", "01", runs, "MNI152NLin6Asym")
    assert len(problems) == 1 and f"found transforms from T1w to {SPACE}, expected" in problems[0]


def test_the_check_and_the_manifest_know_of_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "ready", tmp_path / "ready")
    (tmp_path / "raw").symlink_to(root / "raw")
    (tmp_path / "ready" / HMC).unlink()
    with pytest.raises(UserError, match="engine 'minimal' needs it"):
        validate_raw(experiment(tmp_path), "had")
    listed = raw_manifest(experiment(tmp_path), "had")["manifest"]
    assert any(entry["path"] == WARP for files in listed.values() for entry in files)
    shutil.rmtree(tmp_path / "ready")
    with pytest.raises(UserError, match=r"datasets\.had\.derivatives_dir: .*'minimal' reads"):
        check_experiment(experiment(tmp_path))
