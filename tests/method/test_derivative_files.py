"""Files that belong to a run of ready derivatives, their grids, and the choice among variants."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.images import load_image
from boldscribe.data.layout import find_runs
from boldscribe.data.preprocessed import preprocessed_runs
from boldscribe.data.regressors import confounds_path
from boldscribe.data.runs import mask_path
from boldscribe.machinery.errors import UserError
from tests.method.ready_dataset import (
    CUBIC,
    SPACE,
    bold_of,
    confounds_of,
    experiment,
    preflight,
    series_and_trials,
    write_dataset,
    write_run,
)

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
        find_runs(root / "raw", "01", RunChoice(("watch",)))
    config = experiment(root, entities={key: label})
    made = series_and_trials(config, root, preflight(config))
    assert len(made["01"][1]) == 6 and f"_{one}" in find_runs(root / "raw", "01", RunChoice(("watch",), variant={key: label}))["01"].name
    if not other:
        assert "_acq-" not in find_runs(root / "raw", "01", RunChoice(("watch",), variant={key: None}))["01"].name


def test_entities_with_settings_of_their_own_are_refused() -> None:
    assert Dataset(entities={"echo": 2}).entities == {"echo": "2"}  # type: ignore[dict-item]
    for entities, message in (
        ({"run": "1"}, "adaptation_runs"),
        ({"space": "T1w"}, "preprocessing.space"),
        ({"direction": "AP"}, "such as dir"),
    ):
        with pytest.raises(UserError, match=message):
            Config.parse({"datasets": {"own": {"entities": entities}}})
