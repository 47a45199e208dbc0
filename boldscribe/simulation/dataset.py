"""Raw BIDS data sets that imitate HAD and Urgen in miniature: rendered clips, and BOLD simulated from what they show."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from boldscribe import __version__
from boldscribe.config import Config
from boldscribe.config.simulation_settings import Simulation
from boldscribe.data.images import save_image
from boldscribe.data.layout import entity_path
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, write_json
from boldscribe.machinery.reproducible import generator
from boldscribe.simulation.bold import head_motion, simulate_run
from boldscribe.simulation.phantom import Anatomy, centred_affine, epi_image, t1w_image, tissues_at, world_points
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.responses import PEAK_RESPONSE, feature_matrix, response_delay, subject_maps, time_courses
from boldscribe.simulation.scenes import VOCABULARY, Scene, draw_scenes, ground_truth
from boldscribe.simulation.truth import layout_of

LEAD_IN = LEAD_OUT = 12.0  # s before the first and after the last trial
T1W_FIELD_OF_VIEW, BOLD_FIELD_OF_VIEW = (184.0, 224.0, 200.0), (189.0, 225.0, 171.0)  # mm
WARNING = "SIMULATED: clips are rendered and BOLD is computed from what they show; no person was scanned."


def plan(config: Config, dataset: str) -> tuple[dict[str, Scene], pd.DataFrame]:
    """Plan the clips of a data set, and the subject, run and onset of each presentation.

    Returns:
        scene by clip name, and a table with `subject, run, onset` (s) and `stim_file`, in order of presentation.
    """
    design, s = config.datasets[dataset].simulated, config.simulation
    if design is None:
        raise UserError(f"datasets.{dataset}.simulated", "found null, expected the design of a simulated data set")
    subjects = [f"{i:02d}" for i in range(1, design.subjects + 1)]
    runs = [f"{i:02d}" for i in range(1, design.runs + 1)]
    rng = generator(config.seed, "simulation", dataset, "plan")
    viewings = [(None, run) for run in runs] if design.shared_clips else [(subject, run) for subject in subjects for run in runs]
    # Names reveal neither subject nor run nor content.
    numbers = iter(rng.permutation(len(viewings) * design.trials_per_run) + 1)
    clips: dict[str, Scene] = {}
    seen: dict[tuple[str | None, str], list[str]] = {}
    for viewing in viewings:
        names = [f"clip-{next(numbers):04d}.mp4" for _ in range(design.trials_per_run)]
        clips.update(zip(names, draw_scenes(len(names), rng), strict=True))
        seen[viewing] = names
    rows = []
    for subject in subjects:
        for run in runs:
            order = rng.permutation(seen[(None if design.shared_clips else subject, run)])
            start = LEAD_IN + rng.uniform(0, 0.5)
            rows += [
                {"subject": subject, "run": run, "onset": round(start + i * s.stimulus_onset_asynchrony, 3), "stim_file": str(name)}
                for i, name in enumerate(order)
            ]
    return dict(sorted(clips.items())), pd.DataFrame(rows)


def simulate_stimuli(config: Config, dataset: str) -> list[Path]:
    """Render the clips, and write and return the files that belong to the data set as a whole."""
    s, root = config.simulation, Path(config.datasets[dataset].bids_dir)
    clips, _ = plan(config, dataset)
    (root / "stimuli").mkdir(parents=True, exist_ok=True)
    for name, scene in tqdm(clips.items(), "clips", mininterval=5):
        write_clip(root / "stimuli" / name, render(scene, size=s.clip_size, fps=s.clip_fps, seconds=s.clip_seconds), s.clip_fps)
    table = pd.DataFrame([{"stim_file": name, **{f: getattr(scene, f) for f in VOCABULARY}} for name, scene in clips.items()])
    _write_tsv(root / "stimuli" / "clips.tsv", table)
    return _write_dataset_files(config, dataset, root)


def simulate_subject(config: Config, dataset: str, subject: str) -> None:
    """Write one subject's T1w image, and BOLD with events for each run.

    Raises:
        UserError: the design has no such subject.
    """
    clips, viewed = plan(config, dataset)
    viewed = viewed[viewed["subject"] == subject]
    if viewed.empty:
        raise UserError(
            f"datasets.{dataset}", f"found subject {subject!r}, expected one of the simulated ones; correct the split or `simulated`"
        )
    rng = generator(config.seed, "simulation", dataset, subject)
    anatomy = Anatomy(rng)
    _write_t1w(config, dataset, subject, anatomy, rng)
    _write_runs(config, dataset, subject, anatomy, clips, viewed, rng)


def _write_t1w(config: Config, dataset: str, subject: str, anatomy: Anatomy, rng: np.random.Generator) -> None:
    size = config.simulation.t1w_voxel_size
    shape = _shape(T1W_FIELD_OF_VIEW, size)
    affine = centred_affine(shape, size, tuple(rng.normal(0, 2, 3)), (0.0, -18.0, 8.0))
    tissues = tissues_at(anatomy.to_template(world_points(shape, affine)), shape)
    path = Path(config.datasets[dataset].bids_dir) / entity_path(subject, datatype="anat", suffix="T1w", extension=".nii.gz")
    save_image(path, t1w_image(tissues, rng), affine, dtype="int16")
    write_json(_sidecar(path), {"Modality": "MR", "MagneticFieldStrength": 3, **_scanner()})


def _write_runs(
    config: Config,
    dataset: str,
    subject: str,
    anatomy: Anatomy,
    clips: dict[str, Scene],
    viewed: pd.DataFrame,
    rng: np.random.Generator,
) -> None:
    s, d = config.simulation, config.datasets[dataset]
    shape = _shape(BOLD_FIELD_OF_VIEW, s.voxel_size)
    affine = centred_affine(shape, s.voxel_size, (12 + rng.normal(0, 2), *rng.normal(0, 1.5, 2)), (0.0, -18.0, 8.0))
    points = anatomy.to_template(world_points(shape, affine))
    tissues = tissues_at(points, shape)
    baseline = epi_image(tissues, rng)
    maps = subject_maps(layout_of(config), points[tissues.brain.ravel()], tissues.gm[tissues.brain], rng)
    delay = response_delay(rng)
    for run, trials in viewed.groupby("run"):
        onsets = trials["onset"].to_numpy()
        times = frame_times(onsets, s)
        courses = time_courses(feature_matrix([clips[c] for c in trials["stim_file"]]), onsets, s.clip_seconds, times, delay)
        bold = simulate_run(
            baseline,
            affine,
            maps,
            tissues.brain,
            courses,
            amplitude=PEAK_RESPONSE * s.snr,
            tr=s.repetition_time,
            motion=head_motion(len(times), rng),
            rng=rng,
        )
        path = Path(d.bids_dir) / entity_path(subject, datatype="func", suffix="bold", extension=".nii.gz", task=d.tasks[0], run=str(run))
        save_image(path, bold, affine, tr=s.repetition_time, dtype="int16")
        write_json(
            _sidecar(path),
            {
                "RepetitionTime": s.repetition_time,
                "TaskName": d.tasks[0],
                "EchoTime": 0.03,
                "FlipAngle": 80,
                "MagneticFieldStrength": 3,
                **_scanner(),
            },
        )
        shown = [clips[c] for c in trials["stim_file"]]
        events = trials.assign(
            duration=s.clip_seconds, trial_type=[scene.action for scene in shown], description=[ground_truth(scene) for scene in shown]
        )
        events_path = path.with_name(path.name.replace("_bold.nii.gz", "_events.tsv"))
        _write_tsv(events_path, events[["onset", "duration", "trial_type", "stim_file", "description"]])


def frame_times(onsets: NDArray[np.float64], simulation: Simulation) -> NDArray[np.float64]:
    """Return the acquisition times of a run's volumes (s): all slices in the middle of the TR, until `LEAD_OUT` after the last trial."""
    n = int(np.ceil((onsets[-1] + simulation.stimulus_onset_asynchrony + LEAD_OUT) / simulation.repetition_time))
    return np.arange(n, dtype=np.float64) * simulation.repetition_time + simulation.repetition_time / 2


def _write_dataset_files(config: Config, dataset: str, root: Path) -> list[Path]:
    d = config.datasets[dataset]
    assert d.simulated is not None
    description, readme, ignored = root / "dataset_description.json", root / "README.md", root / ".bidsignore"
    participants, meanings, events = root / "participants.tsv", root / "participants.json", root / f"task-{d.tasks[0]}_events.json"
    write_json(
        description,
        {
            "Name": f"{d.title}, simulated",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["Boldscribe's simulator"],
            "Acknowledgements": WARNING,
            "GeneratedBy": [{"Name": "boldscribe simulate", "Version": __version__}],
        },
    )
    with atomic(readme) as part:
        part.write_text(
            f"# {d.title}, simulated\n\n{WARNING}\n\nSeed {config.seed}, signal-to-noise ratio {config.simulation.snr:g} of the default. "
            "`stimuli/clips.tsv` says what each clip shows. Voxels respond, through a canonical haemodynamic response with a delay "
            "specific to each subject, to the features named there, in patches that match across subjects to within a few millimetres. "
            "All slices of a volume are acquired at once, in the middle of the repetition time: there is no slice timing.\n"
        )
    n = d.simulated.subjects
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(1, n + 1)], "simulated": ["yes"] * n})
    _write_tsv(participants, people)
    write_json(meanings, {"simulated": {"Description": "Whether the data were simulated, not measured"}})
    write_json(
        events,
        {
            "trial_type": {"Description": "Action that the clip shows"},
            "stim_file": {"Description": "Clip, below stimuli/"},
            "description": {"Description": "What the clip shows, in words: the truth that it was rendered from, in one wording"},
        },
    )
    with atomic(ignored) as part:
        part.write_text("*.prov.json\n")
    return [description, readme, ignored, participants, meanings, events]


@cache
def _scanner() -> dict[str, Any]:
    return {"Manufacturer": "none (simulated)", "InstitutionName": "none (simulated)"}


def _shape(field_of_view: tuple[float, float, float], voxel_size: float) -> tuple[int, int, int]:
    x, y, z = (round(length / voxel_size) for length in field_of_view)
    return x, y, z


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.replace(".nii.gz", ".json"))


def _write_tsv(path: Path, table: pd.DataFrame) -> None:
    with atomic(path) as part:
        table.to_csv(part, sep="\t", index=False, lineterminator="\n")
