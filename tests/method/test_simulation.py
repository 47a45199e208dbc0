"""Simulated data: what is put in can be found again, nothing is there at SNR 0, the same seed gives the same bytes, BIDS is valid."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.simulation.bold import head_motion, rigid_matrix, simulate_run
from boldscribe.simulation.dataset import plan, simulate_stimuli, simulate_subject
from boldscribe.simulation.phantom import Anatomy, tissues_at, world_points
from boldscribe.simulation.responses import FEATURES, common_layout, feature_matrix, subject_maps, time_courses
from boldscribe.simulation.scenes import VOCABULARY, draw_scenes
from boldscribe.simulation.truth import layout_of, responsive_voxels


def small(demo: Config, results: Path, **simulation: float) -> Config:
    raw = demo.model_dump(by_alias=True)
    raw["paths"]["results"] = str(results)
    raw["simulation"].update({"voxel_size": 9.0, "t1w_voxel_size": 6.0, "clip_size": 48, **simulation})
    for name in ("had", "urgen"):
        raw["datasets"][name]["simulated"].update(subjects=2, trials_per_run=12)
    return Config.model_validate(raw)


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(demo: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    config = small(demo, folder)
    for name in ("had", "urgen"):
        simulate_stimuli(config, name)
        for subject in ("01", "02"):
            simulate_subject(config, name, subject)
    return folder / "raw"


@pytest.mark.parametrize("name", ["had", "urgen"])
def test_the_bids_validator_finds_no_error(written: Path, name: str) -> None:
    validator = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run([validator, "--json", str(written / name)], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert done.returncode == 0, [i for i in issues if i["severity"] == "error"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(demo: Config, written: Path, tmp_path: Path) -> None:
    for seed, same in ((demo.seed, True), (demo.seed + 1, False)):
        config = small(demo, tmp_path / str(seed)).model_copy(update={"seed": seed})
        simulate_stimuli(config, "had")
        simulate_subject(config, "had", "01")
        again, before = tree(tmp_path / str(seed) / "raw" / "had"), tree(written / "had")
        for name in again:
            if name.endswith((".mp4", ".nii.gz", "events.tsv")):
                assert (again[name] == before.get(name)) is same, name


def test_events_say_what_each_clip_shows(demo: Config, written: Path) -> None:
    assert demo.datasets["had"].description_column == "description"
    table = pd.read_csv(next((written / "had" / "sub-01").rglob("*_events.tsv")), sep="\t")
    truth = pd.read_csv(written / "had" / "stimuli" / "clips.tsv", sep="\t").set_index("stim_file").loc[table["stim_file"]]
    for text, (_, scene) in zip(table["description"], truth.iterrows(), strict=True):
        assert text.startswith(f"A {scene['actor']} in a {scene['colour']} shirt is {scene['action']} ") and scene["place"] in text


def test_clips_are_unique_to_a_subject_or_shared_and_their_names_tell_nothing(demo: Config) -> None:
    for name, shared in (("had", False), ("urgen", True)):
        clips, viewed = plan(demo, name)
        seen = viewed.groupby("subject")["stim_file"].agg(set)
        for a in seen.index:
            for b in seen.index:
                assert a == b or (seen[a] == seen[b]) is shared
                assert a == b or shared or not seen[a] & seen[b]
        design = demo.datasets[name].simulated
        assert design is not None and len(clips) == design.runs * design.trials_per_run * (1 if shared else design.subjects)
        numbers = viewed["stim_file"].str.extract(r"(\d+)")[0].astype(int)
        actions = pd.Series([VOCABULARY["action"].index(clips[c].action) for c in viewed["stim_file"]])
        assert abs(np.corrcoef(numbers, actions)[0, 1]) < 0.2
        per_run = viewed.assign(action=[clips[c].action for c in viewed["stim_file"]]).groupby(["subject", "run"])["action"]
        assert (per_run.value_counts() == design.trials_per_run // 12).all(), "actions are balanced in every run"
        if shared:
            runs = viewed.groupby(["stim_file"])["run"].nunique()
            assert (runs == 1).all(), "a clip stays in its run, so that adaptation and test share none"


def simulated(snr: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A run on a coarse grid without motion: BOLD (volumes, voxels), design (volumes, features), maps (features, voxels)."""
    rng = np.random.default_rng(0)
    shape, affine = (22, 26, 20), np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (-84, -118, -70)
    anatomy = Anatomy(rng)
    points = anatomy.to_template(world_points(shape, affine))
    tissues = tissues_at(points, shape)
    maps = subject_maps(common_layout(rng), points[tissues.brain.ravel()], tissues.gm[tissues.brain], rng)
    onsets = 12 + 6.0 * np.arange(48)
    times = (np.arange(160) + 0.5) * 2
    courses = time_courses(feature_matrix(draw_scenes(48, rng)), onsets, 2.0, times, 0.3)
    baseline = np.full(shape, 8000, np.float32)
    run = simulate_run(baseline, affine, maps, tissues.brain, courses, amplitude=0.03 * snr, tr=2.0, motion=np.zeros((160, 6)), rng=rng)
    return run[tissues.brain].T.astype(float), courses, maps


def test_where_the_truth_says_so_a_subject_responds(demo: Config) -> None:
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = (-94.5, -130.5, -76.5)
    inside = responsive_voxels(demo, (33, 39, 33), affine)
    points = world_points((33, 39, 33), affine)
    gm = tissues_at(points, (33, 39, 33)).gm.ravel()
    response = subject_maps(layout_of(demo), points, gm, np.random.default_rng(1)).max(0)
    assert 0.05 < inside[gm.reshape(inside.shape) > 0.5].mean() < 0.5 and not inside[gm.reshape(inside.shape) < 0.2].any()
    assert response[inside.ravel()].mean() > 2 * response[~inside.ravel() & (gm > 0.5)].mean()


def test_a_general_linear_model_finds_the_patches_again_and_nothing_at_snr_0() -> None:
    for snr in (1.0, 0.5, 0.0):
        bold, courses, maps = simulated(snr)
        change = bold / bold.mean(0) - 1
        drift = np.stack([np.cos(np.pi * k * (np.arange(160) + 0.5) / 160) for k in range(4)], axis=1)
        betas = np.linalg.lstsq(np.hstack([courses - courses.mean(0), drift]), change, rcond=None)[0][: len(FEATURES)]
        for name in ("action", "colour"):
            # Values of one field sum to a constant response: compare what differs between them.
            field = [i for i, (f, _) in enumerate(FEATURES) if f == name]
            found, put_in = (x[field] - x[field].mean(0) for x in (betas, maps))
            change_per_response = (found * put_in).sum() / (put_in**2).sum()
            assert change_per_response == pytest.approx(0.03 * snr, abs=0.002), (name, snr)


def test_at_snr_0_bold_is_the_same_whatever_was_shown() -> None:
    shape = (6, 6, 6)
    brain, baseline, maps = np.ones(shape, bool), np.full(shape, 8000, np.float32), np.ones((3, 216), np.float32)
    run = {
        (snr, shown): simulate_run(
            baseline,
            np.eye(4),
            maps,
            brain,
            np.full((20, 3), shown),
            amplitude=snr,
            tr=2.0,
            motion=np.zeros((20, 6)),
            rng=np.random.default_rng(0),
        )
        for snr in (0.0, 0.03)
        for shown in (0.0, 1.0)
    }
    np.testing.assert_array_equal(run[0.0, 0.0], run[0.0, 1.0])
    assert (run[0.03, 1.0] > run[0.03, 0.0]).all()


def test_a_patch_responds_to_its_feature_at_the_peak_of_the_hrf() -> None:
    one = np.zeros((1, len(FEATURES)))
    one[0, 3] = 1
    course = time_courses(one, np.array([10.0]), 2.0, np.arange(0, 60, 0.5), delay=1.0)[:, 3]
    assert course.max() == pytest.approx(1, abs=0.02)
    assert 14 < 0.5 * course.argmax() < 19, "five to six seconds after the clip, and the delay"


def test_motion_starts_at_rest_and_is_rigid() -> None:
    motion = head_motion(156, np.random.default_rng(0))
    assert (motion[0] == 0).all() and 0.1 < np.abs(motion[:, :3]).max() < 3
    matrix = rigid_matrix(motion[-1], np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(matrix @ [1, 2, 3, 1], [*(np.array([1, 2, 3]) + motion[-1, :3]), 1], atol=1e-12)


def test_images_are_what_scanners_give(written: Path) -> None:
    bold = nib.load(next((written / "had").glob("sub-01/func/*run-01_bold.nii.gz")))
    assert bold.header.get_zooms()[3] == 2.0 and bold.header.get_xyzt_units() == ("mm", "sec")
    assert not np.allclose(bold.affine[:3, :3], np.diag(np.diag(bold.affine[:3, :3]))), "oblique, as scans are"
    events = pd.read_csv(next((written / "had").glob("sub-01/func/*run-01_events.tsv")), sep="\t")
    assert events["onset"].min() >= 12 and events["onset"].max() + 18 <= bold.shape[3] * 2.0 + 2
    assert "SIMULATED" in (written / "had" / "README.md").read_text()
    assert "SIMULATED" in json.loads((written / "had" / "dataset_description.json").read_text())["Acknowledgements"]


def test_an_unknown_subject_is_refused(demo: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found subject '09'"):
        simulate_subject(small(demo, tmp_path), "had", "09")
