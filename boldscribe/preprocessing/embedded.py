"""Preprocessing without a container: a nipype workflow of our own steps on NumPy, SciPy, ANTs and deepbet.

It writes what fMRIPrep would write, under the same names, in the space of nilearn's template. Every sidecar lists the steps that it
omits (`NotDone`). Everything runs on one thread, so that results are bit-reproducible; the workflow engine parallelises over subjects.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.data.layout import find_runs, find_t1w, metadata, name_parts, resolution_label
from boldscribe.data.template import SPACE
from boldscribe.data.timing import run_repetition_time, times_along_axis
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, write_json
from boldscribe.preprocessing.derivatives import DISTORTION, NOT_DONE, SubjectFiles, write_dataset_description
from boldscribe.preprocessing.field_maps import PhaseDifference, field_map_of
from boldscribe.preprocessing.graph import Run, build_workflow, run_workflow


def preprocess_subject(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> None:
    """Preprocess one subject from raw BIDS to BIDS-Derivatives.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder of this subject; emptied first and removed after success.

    Raises:
        UserError: wrong template space, missing or damaged images, NaN volumes, too short runs, no brain in the T1w image.
    """
    space, resolution = config.preprocessing.space, config.preprocessing.resolution
    if space != SPACE:
        raise UserError(
            "preprocessing.space",
            f"found {space}, expected {SPACE}, the only template of the embedded workflow; change space, or choose another engine",
        )
    design = config.datasets[dataset]
    raw = Path(design.bids_dir)
    t1w = find_t1w(raw, subject)
    bolds = find_runs(raw, subject, design.choice)
    if t1w is None or not bolds:
        absent = "T1w image" if t1w is None else f"BOLD run of {design.choice.words}"
        raise UserError(str(raw / f"sub-{subject}"), f"found no {absent}, expected one; check bids_dir, task and session")
    correct = config.preprocessing.susceptibility == "phasediff"
    runs = {label: read_run(bold, raw, correct) for label, bold in bolds.items()}
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    results = run_workflow(build_workflow(t1w, runs, resolution, work_dir), work_dir)

    files = SubjectFiles(output_dir, subject, design.choice.only_session, SPACE, resolution_label(resolution))
    grid = {"Resolution": f"{resolution:g} mm isotropic, in the field of view of fMRIPrep's res-2 grid"}
    for label, run in runs.items():
        steps = ("slice_timing", "resampling", "confounds", "figure")
        outputs = {key: path for step in steps for key, path in results[f"{step}_run{label}"].items()}
        _publish_run(files, run, outputs, raw, grid)
    _publish_anatomy(files, results["anatomy"], t1w, raw, grid)
    write_dataset_description(output_dir, dataset, SPACE)
    shutil.rmtree(work_dir)


def read_run(bold: Path, raw: Path, correct_distortion: bool) -> Run:
    """Read a run's parameters from its sidecar.

    Args:
        bold: raw image.
        raw: root of the data set.
        correct_distortion: search for a field map.

    Raises:
        UserError: no TR, or a sidecar that is not JSON or has unusable entries.
    """
    sidecar = metadata(bold, raw)
    tr, _ = run_repetition_time(bold, raw)
    times, axis = times_along_axis(sidecar, bold)
    field_map = field_map_of(bold, raw, sidecar) if correct_distortion else "preprocessing.susceptibility is none"
    return Run(bold, tr, times, axis, field_map)


def _publish(source: str | Path, target: Path) -> None:
    with atomic(target) as part:
        shutil.copyfile(source, part)


def _publish_run(files: SubjectFiles, run: Run, outputs: dict[str, str], raw: Path, grid: dict[str, str]) -> None:
    about: dict[str, Any] = {"Sources": [f"bids::{run.bold.relative_to(raw)}"], "NotDone": NOT_DONE}
    if isinstance(run.field_map, PhaseDifference):
        about["Sources"] += [f"bids::{path.relative_to(raw)}" for path in (run.field_map.phase, run.field_map.magnitude)]
        about["Done"] = [f"{DISTORTION}, by the phase-difference map, with intensities (Jacobian)"]
    else:
        about["NotDone"] = [f"{DISTORTION}: {run.field_map}", *NOT_DONE]
    for desc, suffix, key in (("preproc", "bold", "preproc_bold"), ("brain", "mask", "brain_mask"), (None, "boldref", "boldref")):
        _publish(outputs[key], files.func(run.bold, desc, suffix))
    write_json(
        files.func(run.bold, "preproc", "bold", ".json"),
        {
            **about,
            "RepetitionTime": run.tr,
            "StartTime": json.loads(Path(outputs["start_time"]).read_text()),
            "SliceTimingCorrected": bool(run.slice_times),
            "SkullStripped": False,
            "TaskName": name_parts(run.bold).get("task"),
            **grid,
        },
    )
    write_json(files.func(run.bold, "brain", "mask", ".json"), {**about, "Type": "Brain", **grid})
    _publish(outputs["confounds"], files.func(run.bold, "confounds", "timeseries", ".tsv", standard=False))
    confound_metadata = json.loads(Path(outputs["metadata"]).read_text())
    write_json(files.func(run.bold, "confounds", "timeseries", ".json", standard=False), confound_metadata)
    _publish(outputs["figure"], files.figure(run.bold))


def _publish_anatomy(files: SubjectFiles, outputs: dict[str, str], t1w: Path, raw: Path, grid: dict[str, str]) -> None:
    about = {"Sources": [f"bids::{t1w.relative_to(raw)}"], "NotDone": NOT_DONE}
    _publish(outputs["t1w"], files.anat("preproc", "T1w"))
    _publish(outputs["mask"], files.anat("brain", "mask"))
    _publish(outputs["to_t1w"], files.transform("T1w", SPACE))
    _publish(outputs["t1w_in_template"], files.anat("preproc", "T1w", standard=True))
    for path, content in (
        (files.anat("preproc", "T1w", ".json"), {**about, "SkullStripped": False}),
        (files.anat("brain", "mask", ".json"), {**about, "Type": "Brain"}),
        (files.anat("preproc", "T1w", ".json", standard=True), {**about, "SkullStripped": False, **grid}),
    ):
        write_json(path, content)
