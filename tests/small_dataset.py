"""A sound raw BIDS data set, small and quick to write, which tests of its readers damage as they like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from boldscribe.data.images import save_image
from boldscribe.simulation.render import write_clip

EVENTS = "onset\tduration\ttrial_type\tstim_file\n4.0\t2\trunning\ta.mp4\n9.5\tn/a\tn/a\tn/a\n10.1\t2\tjumping\tb.mp4\n"


def write_dataset(root: Path, subjects: int = 2, runs: int = 2, name: str = "test", tr: float = 2.0) -> Path:
    """A T1w image and `runs` runs of 20 volumes per subject, each with two trials, which show `a.mp4` and `b.mp4`."""
    rng = np.random.default_rng(0)
    (root / "stimuli").mkdir(parents=True)
    for clip in ("a.mp4", "b.mp4"):
        write_clip(root / "stimuli" / clip, rng.integers(0, 255, (16, 32, 32, 3), np.uint8), 8)
    description = {"Name": name, "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0", "Authors": ["tests"]}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("A data set of random numbers, written by a test.\n")
    (root / "task-action_bold.json").write_text(json.dumps({"RepetitionTime": tr, "TaskName": "action"}))
    for subject in (f"{i:02d}" for i in range(1, subjects + 1)):
        save_image(root / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz", rng.random((5, 6, 7)), np.eye(4))
        for run in range(1, runs + 1):
            stem = root / f"sub-{subject}/func/sub-{subject}_task-action_run-{run}"
            save_image(f"{stem}_bold.nii.gz", rng.random((4, 5, 3, 20)), np.eye(4), tr=tr)
            Path(f"{stem}_events.tsv").write_text(EVENTS)
    return root
