"""Preprocessing without a container: a nipype workflow of our own steps on NumPy, SciPy, ANTs and deepbet.

It writes what fMRIPrep would write, under the same names, into the space of nilearn's template. What it leaves out stands in
every sidecar (`derivatives.NOT_DONE`). Everything runs on one thread, so that results repeat bit by bit; parallelism is the
workflow engine's, by subject.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

# nipype asks the network for its latest version
os.environ["NIPYPE_NO_ET"] = "1"
from nipype import config as nipype_config
from nipype import logging as nipype_logging
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow
from nipype.pipeline.engine.nodes import NodeExecutionError

from boldscribe.bids import entities, find_runs, find_t1w, metadata, resolution_label
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic, write_json
from boldscribe.images import load_image, repetition_time
from boldscribe.preprocessing.derivatives import NOT_DONE, SubjectFiles, write_dataset_description
from boldscribe.preprocessing.template import SPACE

ERROR_FILE = "user_error.json"


class Step(Function):
    """A nipype Function that leaves a `UserError` beside its outputs, since nipype keeps only the text of the traceback."""

    def _run_interface(self, runtime: Any) -> Any:
        try:
            return super()._run_interface(runtime)
        except UserError as error:
            Path(runtime.cwd, ERROR_FILE).write_text(json.dumps([error.where, *error.problems]))
            raise


def anatomy_node(t1w: str, resolution: float) -> tuple:
    """nipype runs the source of this function on its own, hence the imports inside."""
    from pathlib import Path

    from boldscribe.preprocessing.steps import normalise_anatomy

    files = normalise_anatomy(Path(t1w), resolution, Path.cwd())
    return tuple(str(files[name]) for name in ("t1w", "mask", "t1w_in_template", "to_t1w", "points"))


def align_node(bold: str, t1w: str, mask: str, slice_times: list, slice_axis: int, tr: float) -> dict:
    """Motion, slice timing, coregistration."""
    from pathlib import Path

    from boldscribe.preprocessing.steps import align_run

    aligned = align_run(Path(bold), Path(t1w), Path(mask), slice_times, slice_axis, tr, Path.cwd())
    return {key: str(path) for key, path in aligned.items()}


def normalise_node(aligned: dict, points: str, mask: str, resolution: float, tr: float, name: str) -> dict:
    """Resampling and confounds."""
    from pathlib import Path

    from boldscribe.preprocessing.steps import normalise_run

    inputs = {key: Path(path) for key, path in aligned.items()}
    return {key: str(path) for key, path in normalise_run(inputs, Path(points), Path(mask), resolution, tr, name, Path.cwd()).items()}


def build_workflow(t1w: Path, runs: dict[str, dict[str, Any]], resolution: float, work_dir: Path) -> Workflow:
    """The graph of one subject: anatomy → (align → normalise) per run.

    Args:
        t1w: raw T1w image.
        runs: by label: `bold` (path), `tr` (s), `slice_times` (s, empty where the sidecar has none), `slice_axis`.
        resolution: of the output grid (mm).
        work_dir: for nipype's files, crash reports included.
    """
    workflow = Workflow("preprocessing", base_dir=str(work_dir.absolute()))
    workflow.config["execution"] = {
        "crashdump_dir": str(work_dir.absolute()),
        "crashfile_format": "txt",
        "remove_unnecessary_outputs": False,
    }
    anatomy = Node(Step(function=anatomy_node, output_names=["t1w", "mask", "t1w_in_template", "to_t1w", "points"]), "anatomy")
    anatomy.inputs.trait_set(t1w=str(t1w.absolute()), resolution=resolution)
    for label, run in runs.items():
        align = Node(Step(function=align_node, output_names=["aligned"]), f"align_run{label}")
        align.inputs.trait_set(bold=str(run["bold"].absolute()), tr=run["tr"])
        align.inputs.trait_set(slice_times=run["slice_times"], slice_axis=run["slice_axis"])
        normalise = Node(Step(function=normalise_node, output_names=["files"]), f"normalise_run{label}")
        normalise.inputs.trait_set(resolution=resolution, tr=run["tr"], name=str(run["bold"]))
        workflow.connect(
            [
                (anatomy, align, [("t1w", "t1w"), ("mask", "mask")]),
                (anatomy, normalise, [("points", "points"), ("mask", "mask")]),
                (align, normalise, [("aligned", "aligned")]),
            ]
        )
    return workflow


def preprocess_subject(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> None:
    """Raw BIDS to BIDS-Derivatives, for one subject.

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
            f"found {space}, expected {SPACE}, the only template that the embedded workflow brings; change space, or choose another engine",
        )
    design = config.datasets[dataset]
    raw = Path(design.bids_dir)
    t1w = find_t1w(raw, subject)
    bolds = find_runs(raw, subject, design.session, design.task)
    if t1w is None or not bolds:
        absent = "T1w image" if t1w is None else f"BOLD run of task {design.task}"
        raise UserError(str(raw / f"sub-{subject}"), f"found no {absent}, expected one; check bids_dir, task and session")
    runs = {label: _timing(bold, raw) for label, bold in bolds.items()}
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    results = _run(build_workflow(t1w, runs, resolution, work_dir), work_dir)

    files = SubjectFiles(output_dir, subject, design.session, design.task, SPACE, resolution_label(resolution))
    grid = {"Resolution": f"{resolution:g} mm isotropic, in the field of view of fMRIPrep's res-2 grid"}
    for label, run in runs.items():
        _publish_run(files, run, results[f"normalise_run{label}"]["files"], results[f"align_run{label}"]["aligned"], raw, grid)
    _publish_anatomy(files, results["anatomy"], t1w, raw, grid)
    write_dataset_description(output_dir, dataset, SPACE)
    shutil.rmtree(work_dir)


def _timing(bold: Path, raw: Path) -> dict[str, Any]:
    sidecar = metadata(bold, raw)
    tr = float(sidecar.get("RepetitionTime") or repetition_time(load_image(bold, 4)))
    if tr <= 0:
        raise UserError(str(bold), f"RepetitionTime: found {tr}, expected seconds; add it to the JSON sidecar")
    slice_times = list(sidecar.get("SliceTiming") or [])
    direction = sidecar.get("SliceEncodingDirection", "k")
    if direction.endswith("-"):
        slice_times.reverse()
    return {"bold": bold, "tr": tr, "slice_times": slice_times, "slice_axis": "ijk".index(direction[0])}


def _run(workflow: Workflow, work_dir: Path) -> dict[str, dict[str, Any]]:
    """Run the graph in this process; outputs by node name."""
    nipype_config.update_config({"logging": {"workflow_level": "WARNING", "interface_level": "CRITICAL"}})
    nipype_logging.update_logging(nipype_config)
    nipype_logging.getLogger("nipype.workflow").setLevel("CRITICAL")
    try:
        with threadpool_limits(1):
            graph = workflow.run(plugin="Linear")
    except (NodeExecutionError, RuntimeError):
        for note in sorted(work_dir.rglob(ERROR_FILE)):
            where, *problems = json.loads(note.read_text())
            raise UserError(where, *problems) from None
        raise
    return {node.name: node.result.outputs.get() for node in graph.nodes()}


def _publish(source: str | Path, target: Path) -> None:
    with atomic(target) as part:
        shutil.copyfile(source, part)


def _publish_run(
    files: SubjectFiles,
    run: dict[str, Any],
    outputs: dict[str, str],
    aligned: dict[str, str],
    raw: Path,
    grid: dict[str, str],
) -> None:
    label = entities(run["bold"]).get("run")
    source = f"bids::{run['bold'].relative_to(raw)}"
    about = {"Sources": [source], "NotDone": NOT_DONE}
    for desc, suffix, key in (("preproc", "bold", "preproc_bold"), ("brain", "mask", "brain_mask"), (None, "boldref", "boldref")):
        _publish(outputs[key], files.func(label, desc, suffix))
    start_time = json.loads(Path(aligned["start_time"]).read_text())
    write_json(
        files.func(label, "preproc", "bold", ".json"),
        {
            **about,
            "RepetitionTime": run["tr"],
            "StartTime": start_time,
            "SliceTimingCorrected": bool(run["slice_times"]),
            "SkullStripped": False,
            "TaskName": files.task,
            **grid,
        },
    )
    write_json(files.func(label, "brain", "mask", ".json"), {**about, "Type": "Brain", **grid})
    _publish(outputs["confounds"], files.func(label, "confounds", "timeseries", ".tsv", standard=False))
    confound_metadata = json.loads(Path(outputs["metadata"]).read_text())
    write_json(files.func(label, "confounds", "timeseries", ".json", standard=False), confound_metadata)


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
