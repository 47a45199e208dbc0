"""Sections of the configuration: data sets, preprocessing, stimuli."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from boldscribe.config.run_choice import RunChoice, RunNames, label_of, label_parts
from boldscribe.config.simulation_settings import SimulatedDesign
from boldscribe.machinery.section import Label, Section, key

ANNOTATIONS = "derivatives/stimuli_metadata/annotations.json"  # of BOLD Moments, below its root
LONG_NAMES = {"direction": "dir", "acquisition": "acq", "reconstruction": "rec", "resolution": "res", "ceagent": "ce"}


class Dataset(Section):
    """A BIDS data set and its split into source and target subjects."""

    title: str = key("", "name printed in tables", "ours")
    table: int = key(3, "number of the table; 1 and 2 are those of the paper, whose values are then printed next to ours", "paper 4.2")
    adapter: Literal["bids", "had", "bold_moments"] = key(
        "bids",
        "plain BIDS; HAD (ds004488) with its own conventions for names, onsets and derivatives (docs/real-data.md); or BOLD Moments "
        "(ds005165), whose annotations name the actions (docs/bold-moments.md)",
        "data sets",
    )
    bids_dir: str = key("", "folder of the raw BIDS data set; simulated data are always written to RESULTS/raw/NAME", "ours")
    manifest: str | None = key(
        None, "list of the data set's files with digests, for download by `boldscribe fetch`; null for your own data", "ours"
    )
    derivatives_dir: str | None = key(
        None, "folder of existing fMRIPrep derivatives, read by the preprocessing engines 'derivatives' and 'minimal'", "ours"
    )
    stimuli_dir: str | None = key(None, "folder of the videos; null for BIDS_DIR/stimuli", "data sets")
    stimulus_column: str = key("stim_file", "events column that names the stimulus", "data sets")
    description_column: str | None = key(
        None,
        "events column with the data set's own descriptions of the clips, a ceiling for comparison; null if there is none",
        "validity",
    )
    description_file: str | None = key(
        None,
        "table or JSON with one or several descriptions of each clip by people, which may be the stimulus manifest: with captioner.kind "
        "'given' the captions (null for description_column), with any other the references of a second table (docs/captioners.md)",
        "ours",
    )
    stimulus_manifest: str | None = key(
        None, "table of each stimulus's video, action and source, if the events do not name them (docs/real-data.md)", "ours"
    )
    lead_in: float | Literal["detect"] = key(
        0.0,
        "time from the first volume to the zero point of the onsets (s); 'detect' uses HAD's 12 s if its onsets exclude them",
        "data sets",
    )
    repeats: Literal["keep", "average"] = key(
        "keep",
        "several presentations of a clip to a subject: a trial each, or one trial with their mean; adaptation trials are kept, since to "
        "average them would be to know their clips",
        "ours; data sets",
    )
    missing_responses: Literal["keep", "exclude"] = key("keep", "keep or exclude trials without the expected response", "data sets")
    simulated: SimulatedDesign | None = key(None, "design of the simulated data set; null for measured data", "ours")
    task: Label | list[Label] = key("action", "BIDS task label, or a list", "data sets")
    session: Label | list[Label] | None = key(None, "BIDS session label, or a list; null if the data set has no sessions", "data sets")
    entities: dict[str, Label | None] = key(
        {}, "BIDS entities that choose among several files of a run, such as {dir: AP}; null for files without this entity", "ours"
    )
    missing_runs: Literal["stop", "exclude"] = key(
        "stop", "stop at, or go on without, source subjects' runs that have events or raw BOLD but no BOLD to read", "ours"
    )
    train_subjects: list[Label] = key([], "source subjects (labels without 'sub-')", "paper 4.1")
    validation_subjects: list[Label] = key([], "target subjects, whose labels are never used in training", "paper 4.1")
    adaptation_runs: list[RunNames] = key(
        [],
        "runs of target subjects used, without labels, to adapt the model; also by entities, such as task-train or ses-02_run-01",
        "practice",
    )
    test_runs: list[RunNames] = key([], "runs of target subjects that are decoded and scored", "practice")
    leave_out: int | None = key(
        None,
        "rotation: number of target subjects per fold (the last may have fewer); all subjects are divided in order, and each fold is "
        "decoded by a model trained on the others; null for the split above",
        "ours",
        ge=1,
    )
    fold_of: Label | None = key(None, "data set of which this is a fold; filled in by Boldscribe if leave_out is set", "ours")
    split: Literal["paper", "strict"] = key(
        "paper", "'strict': no video source occurs in both training and test trials", "paper 4.1; data sets"
    )
    strict_test_share: float = key(
        1.0, "'strict': share of the sources seen on both sides that is kept for testing; the rest is kept for training", "ours", ge=0, le=1
    )

    @property
    def subjects(self) -> list[str]:
        """Source and target subjects, in this order."""
        return [*self.train_subjects, *self.validation_subjects]

    @property
    def targets(self) -> list[str]:
        """Decoded subjects: those of the split or, in a rotation, all subjects, each in one fold."""
        return self.validation_subjects if self.leave_out is None else self.subjects

    @property
    def videos(self) -> Path:
        """Folder of the videos, to which `stim_file` is relative."""
        return Path(self.stimuli_dir) if self.stimuli_dir is not None else Path(self.bids_dir) / "stimuli"

    def fetches(self, path: str | None) -> bool:
        """Return whether a file or folder is part of the data set, and fetched with it."""
        return path is not None and self.manifest is not None and Path(path).is_relative_to(self.bids_dir or "/")

    @property
    def numbers_clips(self) -> bool:
        """True if a clip's number, its file name without folder and ending, names it in the whole data set."""
        return self.adapter == "bold_moments"

    @property
    def annotations(self) -> set[Path]:
        """Files that describe the clips, besides the events."""
        own = [Path(self.bids_dir, ANNOTATIONS)] if self.adapter == "bold_moments" else []
        return {*own, *(Path(path) for path in (self.description_file, self.stimulus_manifest) if path)}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Its task labels."""
        return (self.task,) if isinstance(self.task, str) else tuple(self.task)

    @property
    def choice(self) -> RunChoice:
        """The runs of the data set. Several sessions or tasks are part of their labels, since their numbers start anew in each."""
        sessions = tuple(self.session) if isinstance(self.session, list) else (self.session,)
        apart = (*(["ses"] if len(sessions) > 1 else []), *(["task"] if len(self.tasks) > 1 else []))
        return RunChoice(self.tasks, sessions, apart, self.entities)

    @field_validator("task", "session")
    @classmethod
    def _different_labels(cls, labels: Any) -> Any:
        """Refuse an empty list, and a label that is named twice."""
        if isinstance(labels, list) and (not labels or len(set(labels)) < len(labels)):
            raise ValueError(f"expected one label, or a list of different labels, found {labels}")
        return labels

    @field_validator("entities", mode="before")
    @classmethod
    def _name_variants(cls, entities: Any) -> Any:
        """Read numbers as labels, and refuse entities that have settings of their own."""
        elsewhere = {"ses": "session", "task": "task", "run": "adaptation_runs and test_runs", "space": "preprocessing.space"}
        elsewhere |= {"sub": "train_subjects and validation_subjects"}
        for name in entities if isinstance(entities, dict) else ():
            if name in elsewhere:
                raise ValueError(f"entities has {name}, which {elsewhere[name]} decides; remove it there")
            if not re.fullmatch("[a-z]+", str(name)) or name in LONG_NAMES:
                raise ValueError(f"entities has {name}; write it as in file names, such as {LONG_NAMES.get(name, 'dir')}")
        return {k: str(v) if isinstance(v, int) else v for k, v in entities.items()} if isinstance(entities, dict) else entities

    @field_validator("adaptation_runs", "test_runs")
    @classmethod
    def _two_digits(cls, runs: list[str]) -> list[str]:
        """Pad run numbers with zeros, so that `1` and `01` are the same run."""
        return [label_of(label_parts(run)) for run in runs]

    @model_validator(mode="after")
    def _check_split(self) -> Dataset:
        for name in ("train_subjects", "validation_subjects", "adaptation_runs", "test_runs"):
            labels = getattr(self, name)
            if repeated := sorted({x for x in labels if labels.count(x) > 1}):
                raise ValueError(f"{name} names {', '.join(repeated)} twice")
        if self.simulated and (isinstance(self.task, list) or isinstance(self.session, list)):
            raise ValueError("simulated data have one task and no sessions; name one task")
        if self.lead_in == "detect" and self.adapter != "had":
            raise ValueError("lead_in is 'detect', which is known of HAD alone; give the seconds from the first volume to the onsets' zero")
        if both := sorted(set(self.train_subjects) & set(self.validation_subjects)):
            raise ValueError(
                f"subject(s) {', '.join(both)} in train_subjects and in validation_subjects: "
                "a target subject must not be trained on; remove from one"
            )
        if self.leave_out is not None and self.leave_out >= len(self.subjects):
            raise ValueError(
                f"leave_out is {self.leave_out} of {len(self.subjects)} subjects, so that none is left to train on; choose a smaller "
                "number, or name more subjects in train_subjects and validation_subjects"
            )
        if both := sorted(set(self.adaptation_runs) & set(self.test_runs)):
            raise ValueError(f"run(s) {', '.join(both)} in adaptation_runs and in test_runs: test trials must be unseen; remove from one")
        return self


class PretrainingSet(Section):
    """Existing BIDS-Derivatives of subjects outside all tables, as further BOLD for pretraining SC-MBM."""

    derivatives_dir: str = key(..., "root folder of the derivatives, in the configured space and resolution", "paper 3.1: HCP")
    task: Label = key("rest", "BIDS task label", "SC-MBM")
    session: Label | None = key(None, "BIDS session label, if the data set has sessions", "ours")
    subjects: list[Label] = key(..., "subjects (labels without 'sub-')", "ours", min_length=1)
    seconds_per_volume: float | None = key(
        None,
        "time step to which faster-sampled runs, such as HCP's at 0.72 s, are averaged (s); null for no averaging",
        "ours; SC-MBM: averages of 8 s, its whole window",
        gt=0,
    )

    @property
    def choice(self) -> RunChoice:
        """The runs of the data set. HCP has each run in two phase directions."""
        return RunChoice((self.task,), (self.session,), ("acq", "dir"))


FMRIPREP = ("apptainer", "docker", "bare")  # engines that run it


class Preprocessing(Section):
    """Preprocessing of raw BIDS to BIDS-Derivatives."""

    engine: Literal["apptainer", "docker", "bare", "minimal", "derivatives", "embedded"] = key(
        "apptainer",
        "fMRIPrep in its container (apptainer, or docker through its wrapper) or installed (bare); raw BOLD resampled with the transforms "
        "of existing derivatives (minimal); existing derivatives; or the embedded nipype workflow (docs/preprocessing.md)",
        "ours",
    )
    space: str = key(
        "MNI152NLin2009cAsym",
        "label of the template space; the embedded workflow writes MNI152NLin2009aSym",
        "paper 3.1: whole brain; practice",
    )
    resolution: float = key(
        2.0, "edge of the isotropic voxels in template space (mm); of ready derivatives the images' own grid holds", "practice", gt=0
    )
    fmriprep_image: str = key("nipreps/fmriprep:25.2.7", "fMRIPrep container image", "ours")
    fmriprep_digest: str | None = key(
        None, "required digest of the image, sha256:…; null for that in data/containers.csv", "ours", pattern="^sha256:[0-9a-f]{64}$"
    )
    fmriprep_sif: str = key("containers/fmriprep-25.2.7.sif", "apptainer: file built from the image", "ours")
    fmriprep_command: str = key("fmriprep", "bare: fMRIPrep program, in an environment of its own", "ours")
    templateflow_home: str | None = key(
        "data/templateflow", "folder of fMRIPrep's templates, filled before the run; null for those in the image", "preprocessing"
    )
    freesurfer_license: str | None = key(
        None, "FreeSurfer licence file for fMRIPrep; null for the file named by the variable FS_LICENSE", "ours"
    )
    susceptibility: Literal["phasediff", "none"] = key(
        "phasediff", "embedded: distortion correction by phase-difference map, if the data set has one", "data sets"
    )

    @property
    def runs_fmriprep(self) -> bool:
        """True if fMRIPrep preprocesses, in its container or installed."""
        return self.engine in FMRIPREP

    @property
    def reads_derivatives(self) -> bool:
        """True if derivatives made elsewhere are read, entirely or for their transforms."""
        return self.engine in ("minimal", "derivatives")


class Bold(Section):
    """Cleaned series and trial windows from preprocessed BOLD."""

    signal: Literal["window", "lss"] = key(
        "window",
        "volumes after the onset, or one response per trial, fitted with all other trials as one regressor (LSS)",
        "paper 3.1; practice",
    )
    delay: float = key(4.0, "time from clip onset to the first volume of the window (s), for the lag of the HRF", "practice")
    n_volumes: int = key(3, "volumes per trial window", "paper 3.1: several volumes; practice", ge=1)
    motion: Literal["basic", "power2", "derivatives", "full"] = key("basic", "motion regressors (nilearn load_confounds)", "practice")
    tissue: Literal["basic", "power2", "derivatives", "full"] | None = key(
        "basic", "white-matter and CSF regressors (nilearn load_confounds); null for none", "practice"
    )
    smoothing_fwhm: float = key(
        0.0, "FWHM of spatial smoothing inside the brain mask, before cleaning (mm); 0 for none", "ours: the paper mentions none", ge=0
    )
    framewise_displacement: float = key(0.5, "threshold above which volumes are flagged, never dropped (mm)", "practice", gt=0)
    clip_sigma: float = key(10.0, "limit at which z-scored BOLD is clipped (SD)", "practice", gt=0)

    @model_validator(mode="after")
    def _one_response_per_trial(self) -> Bold:
        if self.signal == "lss" and self.n_volumes != 1:
            raise ValueError(f"signal is 'lss', which gives one response per trial, but n_volumes is {self.n_volumes}; set it to 1")
        return self


class Stimuli(Section):
    """Frames from videos."""

    reader: Literal["decord", "pyav"] = key(
        "pyav", "video reader; decord decodes with an FFmpeg of 2018, and PyAV takes over where its frames cannot be verified", "ours"
    )
    n_frames: int = key(8, "uniformly spaced frames per clip", "Video-LLaMA", ge=1, le=32)
    size: int = key(224, "edge of a frame (pixels)", "Video-LLaMA", ge=32)
    shards: int = key(8, "number of jobs for the clips of source subjects, and as many for those of target subjects", "ours", ge=1)
    largest_broken_share: float = key(
        0.02, "maximum share of undecodable clips, which are excluded with their trials; more stop the run", "ours", ge=0, le=1
    )
