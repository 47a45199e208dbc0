"""A data set with HAD's layout: 30 subjects, 12 runs of 60 trials, its columns, names and habits; images and videos for a few subjects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.data.images import save_image
from boldscribe.data.template import load_template, output_grid
from boldscribe.simulation.render import write_clip

VERBS = ("Playing", "Riding", "Washing", "Throwing", "Painting", "Cutting", "Climbing", "Making", "Cleaning", "Fixing")
THINGS = ("drum corps", "kickball", "a horse", "a car", "pasta", "the grass", "wood", "shoes", "a fence", "the roof", "hammer", "darts")
ACTIONS = [f"{verb} {thing}" for verb, thing in product(VERBS, THINGS)] + [f"Archery of kind {i}" for i in range(60)]
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"))
N_SUBJECTS, N_RUNS, N_TRIALS, N_VOLUMES, TR = 30, 12, 60, 156, 2.0
SLICE_TIMES = [0.0, 0.99, 0.0825, 1.0725, 1.8975, 0.495]
SESSION = "ses-action01"


@dataclass
class Had:
    """The data set on disk.

    Attributes:
        root: its folder.
        imaged: subjects with images and videos; the others have metadata and events.
        onsets_from_first_volume: as from version 2.0.1 on, with underscores in the names of classes.
        voxel: edge of the derivatives' voxels (mm).
        shown: by subject and run, the events as written.
    """

    root: Path
    imaged: Sequence[str] = ("01", "03")
    onsets_from_first_volume: bool = False
    voxel: float = 16.0
    shown: dict[tuple[str, int], pd.DataFrame] = field(default_factory=dict)

    def write(self, seed: int = 0) -> Had:
        """Write all of it."""
        rng = np.random.default_rng(seed)
        self.root.mkdir(parents=True)
        self._json("dataset_description.json", {"Name": "A large-scale fMRI dataset for human action recognition", "BIDSVersion": "1.4.1"})
        self._json(
            "task-action_bold.json", {"TaskName": "TODO: full task name for action", "RepetitionTime": 2, "PhaseEncodingDirection": "j-"}
        )
        self._json("task-action_events.json", {"response": {"Description": "1 means sports, -1 means non-sports."}})
        (self.root / "README").write_text("HAD's layout, made by a test; nothing in it was measured.\n")
        (self.root / "participants.tsv").write_text("participant_id\n" + "".join(f"sub-{s}\n" for s in self.subjects()))
        assert len(ACTIONS) == 180
        for subject in self.subjects():
            for cycle in range(N_RUNS // 3):
                order = rng.permutation(180).reshape(3, N_TRIALS)
                for k in range(3):
                    self._run(subject, 3 * cycle + k + 1, order[k], rng)
        for subject in self.imaged:
            self._images(subject, rng)
        self._videos(rng)
        return self

    def subjects(self) -> Iterator[str]:
        """Labels 01 to 30."""
        return (f"{i:02d}" for i in range(1, N_SUBJECTS + 1))

    def derivative(self, subject: str, run: int) -> Path:
        """The preprocessed run, under its flat name."""
        return self.root / f"derivatives/fmriprep/sub-{subject}/sub-{subject}_task-action_run-{run}_desc-preproc_bold.nii.gz"

    def _json(self, name: str, content: object) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(json.dumps(content))

    def _stem(self, subject: str, run: int) -> str:
        return f"sub-{subject}/{SESSION}/func/sub-{subject}_{SESSION}_task-action_run-{run:02d}"

    def _run(self, subject: str, run: int, classes: np.ndarray, rng: np.random.Generator) -> None:
        gaps = np.where(np.arange(1, N_TRIALS) % 5 == 0, 8.0, 4.0)  # a blank after every fifth clip
        onsets = np.r_[0.0, np.cumsum(gaps)] + rng.uniform(0, 0.12, N_TRIALS)
        names = []
        for number in classes:
            source = "".join(rng.choice(LETTERS, 11))
            action = ACTIONS[number].replace(" ", "_") if self.onsets_from_first_volume else ACTIONS[number]
            names.append(f"{action}/v_{action}_id_{source}_start_{rng.integers(400) / 2}_label_1.mp4")
        as_integers = (subject, run) == ("22", 7)
        answers = rng.choice(["1", "-1", "n/a"] if as_integers else ["1.0", "-1.0", "n/a"], N_TRIALS, p=[0.5, 0.45, 0.05])
        events = pd.DataFrame(
            {
                "onset": onsets + (12.0 if self.onsets_from_first_volume else 0.0),
                "duration": rng.uniform(2.0, 2.1, N_TRIALS),
                "trial_type": [str(n + 1) if as_integers else f"{n + 1}.0" for n in classes],
                "response": answers,
                "response_time": np.where(answers == "n/a", "n/a", rng.uniform(0.2, 2.5, N_TRIALS).astype(str)),
                "stim_file": names,
            }
        )
        self.shown[subject, run] = events
        path = self.root / f"{self._stem(subject, run)}_events.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        events.to_csv(path, sep="\t", index=False)
        self._json(f"{self._stem(subject, run)}_bold.json", {"RepetitionTime": 2, "TaskName": "action", "SliceTiming": SLICE_TIMES})

    def _images(self, subject: str, rng: np.random.Generator) -> None:
        """Small raw images, and derivatives as HAD ships them: flat names, no mask, no session, run numbers without padding."""
        save_image(self.root / f"sub-{subject}/{SESSION}/anat/sub-{subject}_{SESSION}_run-01_T1w.nii.gz", rng.random((8, 9, 7)), np.eye(4))
        shape, affine = output_grid(self.voxel)
        brain = load_template(shape, affine).mask
        for run in range(1, N_RUNS + 1):
            raw = rng.integers(300, 900, (6, 6, len(SLICE_TIMES), N_VOLUMES), np.int16)
            save_image(self.root / f"{self._stem(subject, run)}_bold.nii.gz", raw, np.diag([20.0, 20, 20, 1]), tr=TR, dtype="int16")
            path = self.derivative(subject, run)
            path.parent.mkdir(parents=True, exist_ok=True)
            series = rng.normal(1000, 20, (*shape, N_VOLUMES)) * brain[..., None]
            save_image(path, series, affine, tr=TR, dtype="int16")
            Path(str(path).replace(".nii.gz", ".json")).write_text(
                json.dumps({"DelayTime": 0.1025, "RepetitionTime": 2, "TaskName": "action"})
            )
            self._confounds(path, rng)

    def _confounds(self, bold: Path, rng: np.random.Generator) -> None:
        motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        table = pd.DataFrame({name: rng.normal(size=N_VOLUMES) for name in (*motion, "csf", "white_matter", "global_signal", "std_dvars")})
        for i in range(3):
            table[f"cosine{i:02d}"] = np.cos(np.pi * (i + 1) * (np.arange(N_VOLUMES) + 0.5) / N_VOLUMES)
        table["framewise_displacement"] = np.r_[np.nan, rng.uniform(0, 0.3, N_VOLUMES - 1)]
        path = bold.with_name(bold.name.replace("_desc-preproc_bold.nii.gz", "_desc-confounds_timeseries.tsv"))
        table.to_csv(path, sep="\t", index=False, na_rep="n/a")
        path.with_suffix(".json").write_text("{}")

    def _videos(self, rng: np.random.Generator) -> None:
        """One of a few rendered clips under each name that the imaged subjects saw."""
        contents = []
        for i in range(4):
            clip = self.root / f"clip{i}.mp4"
            write_clip(clip, rng.integers(0, 255, (16, 32, 32, 3), np.uint8), 8)
            contents.append(clip.read_bytes())
            clip.unlink()
        names = [name for (subject, _), events in self.shown.items() if subject in self.imaged for name in events["stim_file"]]
        for i, name in enumerate(names):
            path = self.root / "stimuli" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[i % len(contents)])
