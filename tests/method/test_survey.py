"""Output of `boldscribe init` for data sets that are incomplete, or have less than it could ask for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset, Preprocessing
from boldscribe.data.checks import inspect_raw
from boldscribe.data.images import save_image
from boldscribe.data.preprocessed import find_preprocessed
from boldscribe.machinery.errors import UserError
from tests.small_dataset import write_dataset

SPACE = "MNI152NLin2009cAsym"


def start(root: Path, *options: str) -> tuple[int, list[str]]:
    """Exit code and lines of `boldscribe init`."""
    result = CliRunner().invoke(main, ["init", str(root), "--out", str(root.parent / "mine.yaml"), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output.splitlines()


def test_every_kind_of_problem_is_shown_once(tmp_path: Path) -> None:
    """12 subjects with 3 runs each, without classes; a T1w image and all videos are missing."""
    root = write_dataset(tmp_path / "lab", subjects=12, runs=3)
    for path in root.rglob("*_events.tsv"):
        path.write_text(path.read_text().replace("trial_type", "kind"))
    (root / "sub-07/anat/sub-07_T1w.nii.gz").unlink()
    shutil.rmtree(root / "stimuli")
    code, lines = start(root, "--no-check")
    told = [line.removeprefix("missing or wrong: ") for line in lines if line.startswith("missing or wrong: ")]
    assert code == 1 and len(told) == 3
    assert told[0].startswith("36 times: ") and "found no trial_type" in told[0] and told[0].endswith(" and 33 more")
    assert told[0].count("_events.tsv") == 3
    assert told[1].startswith("sub-07: found no anat/*_T1w.nii.gz") and "the video folder does not exist" in told[2]


def test_numbers_of_runs_and_subjects_are_not_mixed_up(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "lab", subjects=3)
    (root / "sub-03/func/sub-03_task-action_run-2_bold.nii.gz").unlink()
    lines = start(root, "--no-check")[1]
    assert "  runs: 1 in each of 1 subjects; 2 in each of 2 subjects" in lines
    for number, subject in ((1, "03"), (0, "01")):
        shutil.rmtree(root / "sub-02", ignore_errors=True)
        shutil.rmtree(root / f"sub-{subject}/func")
        (root / "sub-09/func").mkdir(parents=True, exist_ok=True)
        (root / "sub-09/func/sub-09_task-action_bold.nii.gz").symlink_to("nowhere")
        (root / "sub-09").rename(root / "sub-0-9")
        said = " ".join(start(root, "--no-check", "--force")[1])
        assert f"subjects: found {number} with runs, expected at least two" in said
        shutil.rmtree(root / "sub-0-9")


@pytest.mark.parametrize("events", ["of each run", "at the root"])
def test_with_derivatives_the_raw_folder_needs_events_only(tmp_path: Path, events: str) -> None:
    root, ready = write_dataset(tmp_path / "lab", subjects=3), tmp_path / "fmriprep"
    for bold in sorted(root.rglob("*_bold.nii.gz")):
        stem = ready / bold.relative_to(root).with_name(bold.name.replace("_bold.nii.gz", f"_space-{SPACE}_desc-preproc_bold"))
        save_image(f"{stem}.nii.gz", np.ones((3, 3, 3, 20)), np.diag([3.0, 3, 3, 1]), tr=2.0)
        Path(f"{stem}.json").write_text('{"RepetitionTime": 2.0}')
        bold.unlink()
    if events == "at the root":
        next(root.rglob("*_events.tsv")).rename(root / "task-action_events.tsv")
        for subject in ("01", "02", "03"):
            shutil.rmtree(root / f"sub-{subject}")
    else:
        shutil.rmtree(root / "sub-01/anat")
    assert "error: " in start(root, "--no-check")[1][0], "without derivatives, there is no BOLD"
    _, lines = start(root, "--derivatives", str(ready), "--no-check")
    assert "  runs: 2 in each of 3 subjects" in lines, lines
    wrong = [line for line in lines if line.startswith("missing or wrong")]
    assert len(wrong) == 1 and "found 2 clips shown to source subjects" in wrong[0], "the runs of the derivatives are counted"
    config = Config.load(tmp_path / "mine.yaml")
    _, problems = inspect_raw(config, "lab")
    assert [p for p in problems if str(root) in p or "events" in p] == []


def test_names_that_are_spelled_differently_are_not_missing(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "lab", subjects=2)
    for path in root.rglob("*_events.tsv"):
        path.write_text(path.read_text().replace("a.mp4", ".\\A.MP4").replace("b.mp4", "stimuli/b.mp4"))
    _, lines = start(root, "--no-check")
    assert any("0 video(s) never shown" in line for line in lines) and not any("do not exist" in line for line in lines)


def test_derivatives_of_level_minimal_are_pointed_to_their_engine(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01/func"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"correct preprocessing\.space"):
        find_preprocessed(tmp_path, "01", Dataset(task="action"), Preprocessing(space=SPACE))
    (folder / "sub-01_task-action_run-1_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt").touch()
    with pytest.raises(UserError, match=r"--level minimal .*\(preprocessing\.engine: minimal\)"):
        find_preprocessed(tmp_path, "01", Dataset(task="action"), Preprocessing(space=SPACE))
