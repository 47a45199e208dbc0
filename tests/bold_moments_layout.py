"""A small data set with BOLD Moments' layout (ds005165, 1.0.4): its names, columns and habits, with simulated BOLD.

Smaller than the original: fewer subjects, sessions, runs, clips and voxels. Each session shows each clip of a task once per run of that
task, and its training clips are spread over the runs, as there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from boldscribe.data.images import save_image
from boldscribe.data.template import load_template, output_grid
from boldscribe.machinery.download.manifest import Entry, Manifest, write_manifest
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.scenes import VOCABULARY, Scene, describe, draw_scenes
from tests.method.ready_dataset import confounds

TR, ONSET_ASYNCHRONY, TAIL = 1.75, 4.002, 14.0  # s
SPACE = "MNI152NLin2009cAsym"
FMRIPREP = "derivatives/versionB/fmriprep"
ANNOTATIONS = "derivatives/stimuli_metadata/annotations.json"
FIRST_TEST_CLIP = 1001


@dataclass
class BoldMoments:
    """The data set on disk.

    Attributes:
        root: its folder.
        subjects, sessions: labels.
        train_clips, test_clips: numbers of clips.
        train_runs, test_runs: per session.
        resolution: edge of the voxels of the ready BOLD (mm).
        signal: SD of the response to a clip, in units of the noise.
        images: whether ready BOLD is written, besides events and metadata.
        shown: events of each run as written, by subject and label.
    """

    root: Path
    subjects: Sequence[str] = ("01", "02", "03")
    sessions: Sequence[str] = ("02", "03")
    train_clips: int = 24
    test_clips: int = 8
    train_runs: int = 2
    test_runs: int = 1
    resolution: float = 16.0
    signal: float = 1.5
    images: bool = True
    shown: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def scenes(self) -> dict[str, Scene]:
        """What each clip shows, by its name in the events."""
        train = [f"train/{i:04d}.mp4" for i in range(1, self.train_clips + 1)]
        test = [f"test/{i:04d}.mp4" for i in range(FIRST_TEST_CLIP, FIRST_TEST_CLIP + self.test_clips)]
        return dict(zip([*train, *test], draw_scenes(len(train) + len(test), np.random.default_rng(1)), strict=True))

    def write(self) -> BoldMoments:
        """Write all of it except the clips, which the repository does not have."""
        self.root.mkdir(parents=True)
        self._json(
            "dataset_description.json",
            {
                "Name": "Modeling short visual events through the BOLD Moments video fMRI dataset and metadata.",
                "BIDSVersion": "1.5.8",
                "DatasetType": "raw",
                "DatasetDOI": "doi:10.18112/openneuro.ds005165.v1.0.4",
                "License": "CC0",
            },
        )
        (self.root / "README").write_text("BOLD Moments' layout, made by a test; nothing in it was measured.\n")
        (self.root / "participants.tsv").write_text("participant_id\n" + "".join(f"sub-{s}\n" for s in self.subjects))
        for task in ("localizer", "test", "train"):
            self._json(f"task-{task}_events.json", {"onset": {"Units": "seconds"}})
        self._json(f"{FMRIPREP}/dataset_description.json", {"Name": "fMRIPrep", "GeneratedBy": [{"Name": "fMRIPrep", "Version": "23.2.0"}]})
        self._annotations()
        for subject in self.subjects:
            self._first_session(subject)
            for session in self.sessions:
                self._field_map(subject, session)
                for task, n_runs in (("test", self.test_runs), ("train", self.train_runs)):
                    for run in range(1, n_runs + 1):
                        self._run(subject, session, task, run)
        return self

    def write_clips(self, folder: Path) -> Path:
        """Write the clips as its authors hand them out."""
        for name, scene in self.scenes.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_clip(folder / name, render(scene, size=128, fps=8, seconds=3.0), 8)
        return folder

    def _annotations(self) -> None:
        """Five people's actions and sentences of each clip, most of whom name its own action."""
        rng = np.random.default_rng(2)
        found = {}
        for name, scene in self.scenes.items():
            number = Path(name).stem
            others = [action for action in VOCABULARY["action"] if action != scene.action]
            actions = [scene.action, str(rng.choice(others)), scene.action, scene.action, "--"]
            found[number] = {
                "bmd_matrixfilename": f"vid_idx{number}",
                "MiT_url": "https://example.org/video",
                "MiT_filename": f"{scene.action.split()[0]}/{number}.mp4",
                "set": name.split("/")[0],
                "objects": [["ball", "grass", "--"]] * 5,
                "scenes": ["field", "yard", "field", "park", "field"],
                "actions": actions,
                "text_descriptions": [describe(scene, rng).replace(".", ".\n" if i == 1 else ".") for i in range(5)],
                "spoken_transcription": f"you can see {describe(scene, rng)}",
                "memorability_score": 0.8,
                "memorability_decay": -0.001,
            }
        self._json(ANNOTATIONS, found)
        self._json("derivatives/stimuli_metadata/annotations_fieldnames.json", {"set": {"Levels": {"train": "", "test": ""}}})
        captions = {number: {"GIT-git-large-coco": [one["text_descriptions"][0]] * 5} for number, one in found.items()}
        self._json("derivatives/stimuli_metadata/llm_frame_annotations.json", captions)

    def _first_session(self, subject: str) -> None:
        """Anatomy, localizer and rest, which no trial is taken from."""
        stem = f"sub-{subject}/ses-01"
        save_image(self.root / f"{stem}/anat/sub-{subject}_ses-01_T1w.nii", np.ones((4, 4, 4)), np.eye(4))
        for task in ("localizer", "rest"):
            self._json(f"{stem}/func/sub-{subject}_ses-01_task-{task}_run-1_bold.json", {"RepetitionTime": TR, "TaskName": task})
            (self.root / f"{stem}/func/sub-{subject}_ses-01_task-{task}_run-1_bold.nii").write_bytes(b"not read")

    def _field_map(self, subject: str, session: str) -> None:
        for suffix in ("magnitude1", "magnitude2", "phasediff"):
            path = f"sub-{subject}/ses-{session}/fmap/sub-{subject}_ses-{session}_run-1_{suffix}"
            self._json(f"{path}.json", {"IntendedFor": []})
            (self.root / f"{path}.nii").write_bytes(b"not read")

    def _run(self, subject: str, session: str, task: str, run: int) -> None:
        label = f"ses-{session}_task-{task}_run-{run:02d}"
        rng = np.random.default_rng([int(subject), int(session), len(task), run])
        clips = [name for name in self.scenes if name.startswith(task)]
        if task == "test":
            clips = [*rng.permutation(clips), *rng.permutation(clips)]
        else:
            clips = list(rng.permutation(clips[run - 1 :: self.train_runs]))
        for at in sorted(rng.choice(len(clips), max(2, len(clips) // 4), replace=False), reverse=True):
            clips.insert(at + 1, "n/a")
        events = pd.DataFrame({"onset": ONSET_ASYNCHRONY * np.arange(1, len(clips) + 1), "duration": 3.0, "stim_file": clips})
        events["trial_type"] = np.where(events["stim_file"] == "n/a", "oddball", task)
        events["value"] = (events["stim_file"] == "n/a").astype(int)
        self.shown[subject, label] = events
        stem = f"sub-{subject}/ses-{session}/func/sub-{subject}_ses-{session}_task-{task}_run-{run}"
        n_volumes = int(np.ceil((events["onset"].max() + TAIL) / TR))
        self._json(f"{stem}_bold.json", {"RepetitionTime": TR, "TaskName": task, "EchoTime": 0.03, "SliceTiming": [0.0, 0.875, 1.65]})
        (self.root / f"{stem}_bold.nii").write_bytes(b"not read")
        events.to_csv(self.root / f"{stem}_events.tsv", sep="\t", index=False, float_format="%.3f")
        if self.images:
            self._ready(stem, subject, events, n_volumes, rng)

    def _ready(self, stem: str, subject: str, events: pd.DataFrame, n_volumes: int, rng: np.random.Generator) -> None:
        """fMRIPrep's output of a run: volumes in the template space and, as files that nothing reads, in others."""
        path = self.root / FMRIPREP / stem
        shape, affine = output_grid(self.resolution)
        mask = load_template(shape, affine).mask
        bold = np.zeros((*shape, n_volumes), np.float32)
        noise = rng.normal(size=(int(mask.sum()), n_volumes))
        bold[mask] = 1000 + 10 * (noise + self.signal * self.responses(subject, events, n_volumes, int(mask.sum())))
        standard = f"{path}_space-{SPACE}"
        save_image(f"{standard}_desc-preproc_bold.nii.gz", bold, affine, tr=TR, dtype="int16", code="mni")
        save_image(f"{standard}_desc-brain_mask.nii.gz", mask.astype(np.uint8), affine, dtype="uint8", code="mni")
        sidecar = {"DelayTime": 0.0825, "RepetitionTime": TR, "SkullStripped": False, "SliceTimingCorrected": True, "StartTime": 0.0}
        Path(f"{standard}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
        confounds(rng, n_volumes).to_csv(f"{path}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
        for other in (
            "space-T1w_desc-preproc_bold.nii.gz",
            "space-fsLR_den-91k_bold.dtseries.nii",
            "hemi-L_space-fsaverage_bold.func.gii",
            "from-boldref_to-auto00001_mode-image_xfm.txt",
        ):
            Path(f"{path}_{other}").write_bytes(b"not read")

    def responses(self, subject: str, events: pd.DataFrame, n_volumes: int, n_voxels: int) -> NDArray[np.float64]:
        """Responses of all voxels to a run's clips: a pattern of each clip that subjects share in part, about 5 s after its onset."""
        seconds = TR * np.arange(n_volumes)
        total = np.zeros((n_voxels, n_volumes))
        for onset, clip in zip(events["onset"], events["stim_file"], strict=True):
            if clip != "n/a":
                number = int(Path(clip).stem)
                shared, own = (np.random.default_rng([number, who]).normal(size=n_voxels) for who in (0, int(subject)))
                total += np.outer(0.8 * shared + 0.6 * own, np.exp(-(((seconds - onset - 5.5) / 2.5) ** 2)))
        return total

    def _json(self, path: str, content: dict[str, Any]) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(json.dumps(content))


def experiment(folder: Path, made: BoldMoments, server_url: str = "", **dataset: object) -> Path:
    """The profile's experiment on a smaller data set in a folder, with its manifest; the file of what differs."""
    files = sorted(path.relative_to(made.root).as_posix() for path in made.root.rglob("*") if path.is_file())
    source = dict.fromkeys(("accession", "version", "commit", "annex_commit", "licence", "name", "git_url", "git_files_url", "made"), "x")
    entries = (Entry(name, len(content := (made.root / name).read_bytes()), hashlib.sha256(content).digest()) for name in files)
    write_manifest(Manifest({**source, "base_url": server_url}, tuple(entries)), folder / "manifest.parquet")
    own = {
        "bids_dir": str(folder / "data"),
        "manifest": str(folder / "manifest.parquet"),
        "derivatives_dir": str(folder / "data" / FMRIPREP),
        "description_file": str(folder / "data" / ANNOTATIONS),
        "session": list(made.sessions),
        "train_subjects": list(made.subjects[:-1]),
        "validation_subjects": list(made.subjects[-1:]),
    }
    (folder / "own.yaml").write_text(yaml.safe_dump({"datasets": {"boldmoments": own | dataset}}))
    return folder / "own.yaml"
