"""A small data set with ready derivatives under fMRIPrep's names: two source subjects, one target, two runs each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.data.checks import validate_raw
from boldscribe.data.images import save_image
from boldscribe.data.series import write_series
from boldscribe.data.trials import write_trials
from boldscribe.simulation.render import write_clip
from tests.as_step import as_step

SUBJECTS, RUNS, SPACE, TR, N_VOLUMES, SHAPE = ("01", "02", "03"), ("1", "2"), "MNI152NLin2009cAsym", 2.0, 40, (5, 6, 4)
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
TERMS = ("derivative1", "power2", "derivative1_power2")
ONSETS = (4.0, 20.0, 36.0)

CUBIC = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as it should be."""
    return write_dataset(tmp_path_factory.mktemp("ready") / "sound")


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def write_dataset(root: Path, *, standard: str = f"space-{SPACE}_res-2", affine: np.ndarray | None = None) -> Path:
    """Write `raw` (events, videos, a sidecar at the root) and `ready`."""
    rng = np.random.default_rng(0)
    (root / "raw/stimuli").mkdir(parents=True)
    (root / "raw/dataset_description.json").write_text(json.dumps({"Name": "ready", "BIDSVersion": "1.10.0"}))
    (root / "raw/task-watch_bold.json").write_text(json.dumps({"RepetitionTime": TR, "SliceTiming": [0, 0.5, 1, 1.95]}))
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_clip(root / "raw/stimuli" / name, rng.integers(0, 255, (8, 32, 32, 3), np.uint8), 8)
    for subject in SUBJECTS:
        for run in RUNS:
            write_events(root, subject, f"run-{run}")
            write_run(root, subject, f"run-{run}", standard=standard, affine=CUBIC if affine is None else affine)
    return root


def write_events(root: Path, subject: str, entities: str) -> None:
    """Write the events of a run, one clip each 16 s."""
    path = root / f"raw/sub-{subject}/func/sub-{subject}_task-watch_{entities}_events.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{onset}\t2\taction {clip}\t{clip}.mp4" for onset, clip in zip(ONSETS, "abc", strict=True)]
    path.write_text("\n".join(["onset\tduration\ttrial_type\tstim_file", *rows]) + "\n")


def write_run(root: Path, subject: str, entities: str, *, standard: str, affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Path:
    """Write BOLD, sidecar, mask and confounds of a run as fMRIPrep does."""
    rng = np.random.default_rng(int(subject))
    stem = root / f"ready/sub-{subject}/func/sub-{subject}_task-watch_{entities}"
    mask = np.zeros(shape, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    save_image(f"{stem}_{standard}_desc-brain_mask.nii.gz", mask, affine, dtype="uint8")
    Path(f"{stem}_{standard}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR, "StartTime": 0.9}))
    table = confounds(rng, N_VOLUMES)
    table.to_csv(f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
    return save_image(f"{stem}_{standard}_desc-preproc_bold.nii.gz", rng.normal(1000, 20, (*shape, N_VOLUMES)), affine, tr=TR)


def confounds(rng: np.random.Generator, n_volumes: int) -> pd.DataFrame:
    """Confounds of a run under fMRIPrep's names."""
    table = pd.DataFrame({name: rng.normal(size=n_volumes) for name in [*MOTION, "csf", "white_matter", "framewise_displacement"]})
    for name in [*MOTION, "csf", "white_matter"]:
        table[f"{name}_derivative1"] = table[name].diff()
        table[f"{name}_power2"] = table[name] ** 2
        table[f"{name}_derivative1_power2"] = table[name].diff() ** 2
    table["cosine00"] = np.cos(np.pi * (np.arange(n_volumes) + 0.5) / n_volumes)
    return table


def experiment(root: Path, *, engine: str = "derivatives", bold: dict[str, Any] | None = None, **dataset: Any) -> Config:
    """An experiment on the data set."""
    design = {
        "bids_dir": str(root / "raw"),
        "derivatives_dir": str(root / "ready"),
        "task": "watch",
        "train_subjects": ["01", "02"],
        "validation_subjects": ["03"],
        "adaptation_runs": ["01"],
        "test_runs": ["02"],
    }
    return Config.parse(
        {"datasets": {"own": {**design, **dataset}}, "preprocessing": {"engine": engine, "space": SPACE}, "bold": bold or {}}
    )


def preflight(config: Config) -> dict[str, Any]:
    """Run `check_dataset` with the settings that it declares."""
    return validate_raw(as_step(config, "check_dataset", dataset="own"), "own")


def series_and_trials(config: Config, root: Path, report: dict[str, Any]) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    """Write series and trials of all subjects; return the series' headers and the trials, by subject."""
    (root / "checked.json").write_text(json.dumps(report))
    as_series, as_trials = as_step(config, "bold_series", dataset="own"), as_step(config, "trials", dataset="own")
    found = {}
    for subject in config.datasets["own"].subjects:
        series = root / f"out/sub-{subject}_bold.npy"
        write_series(as_series, as_series.datasets["own"], "own", subject, root / "ready", series, lead_in=report["lead_in"])
        paths = {name: root / f"out/sub-{subject}_{name}.parquet" for name in ("trials", "labels", "excluded")}
        write_trials(as_trials, "own", subject, series=series, checked=root / "checked.json", **paths)
        found[subject] = json.loads(series.with_suffix(".json").read_text()), pd.read_parquet(paths["trials"])
    return found


def bold_of(root: Path, subject: str = "01", run: str = "2") -> Path:
    """The preprocessed image of a run."""
    return next((root / "ready").rglob(f"sub-{subject}_*run-{run}_*desc-preproc_bold.nii.gz"))


def confounds_of(root: Path, subject: str = "01", run: str = "2") -> Path:
    """The confounds of a run."""
    return next((root / "ready").rglob(f"sub-{subject}_*run-{run}_*desc-confounds_timeseries.tsv"))


def change_confounds(root: Path, change: Callable[[pd.DataFrame], object]) -> None:
    """Change the confounds of sub-01's run 2 in place."""
    table = pd.read_csv(confounds_of(root), sep="\t")
    changed = change(table)
    (changed if isinstance(changed, pd.DataFrame) else table).to_csv(confounds_of(root), sep="\t", index=False, na_rep="n/a")


def change_sidecar(bold: Path, **entries: Any) -> None:
    """Change entries of an image's sidecar; `...` removes one."""
    path = Path(str(bold).replace(".nii.gz", ".json"))
    content = (json.loads(path.read_text()) if path.exists() else {}) | entries
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
