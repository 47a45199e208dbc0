"""Embedded workflow as a nipype graph: one node per step of `steps`, in this process and on one thread."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

# otherwise nipype checks online for its latest version
os.environ["NIPYPE_NO_ET"] = "1"
from nipype import config as nipype_config
from nipype import logging as nipype_logging
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow
from nipype.pipeline.engine.nodes import NodeExecutionError

from boldscribe.data.images import load_image
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing.field_maps import PhaseDifference

ERROR_FILE = "user_error.json"
Nodes = dict[str, Node]


@dataclass(frozen=True)
class Run:
    """Parameters of a run that the graph needs.

    Attributes:
        bold: raw image.
        tr: s.
        slice_times: s, empty if the sidecar has none.
        slice_axis: voxel axis of the slices.
        field_map: the map to correct it by, or the reason why there is none.
    """

    bold: Path
    tr: float
    slice_times: list[float]
    slice_axis: int
    field_map: PhaseDifference | str


class Step(Function):
    """A nipype Function that saves a `UserError` next to its outputs, since nipype keeps only the text of the traceback."""

    def _run_interface(self, runtime: Any) -> Any:
        try:
            return super()._run_interface(runtime)
        except UserError as error:
            Path(runtime.cwd, ERROR_FILE).write_text(json.dumps([error.where, *error.problems]))
            raise


def run_step(step: str, **given: object) -> dict:
    """Run a step of `steps`; nipype executes this function's source in isolation, hence the local imports."""
    from pathlib import Path

    from boldscribe.preprocessing import steps

    return {key: str(path) for key, path in getattr(steps, step)(Path.cwd(), **given).items()}


def _add(workflow: Workflow, step: str, name: str, before: Nodes, **settings: Any) -> Node:
    """Add a node that runs a function of `steps` on the files of earlier steps."""
    interface = Step(function=run_step, input_names=["step", *settings, *before], output_names=["files"])
    interface.inputs.trait_set(step=step, **settings)
    node = Node(interface, name)
    workflow.add_nodes([node])
    workflow.connect([(source, node, [("files", given)]) for given, source in before.items()])
    return node


def build_workflow(t1w: Path, runs: Mapping[str, Run], resolution: float, work_dir: Path) -> Workflow:
    """Build the graph of one subject: anatomy; field maps; per run motion and slice timing, then coregistration to confounds and figure.

    Args:
        t1w: raw T1w image.
        runs: by label.
        resolution: of the output grid (mm).
        work_dir: for nipype's files, including crash reports.
    """
    workflow = Workflow("preprocessing", base_dir=str(work_dir.absolute()))
    workflow.config["execution"] = {
        "crashdump_dir": str(work_dir.absolute()),
        "crashfile_format": "txt",
        "remove_unnecessary_outputs": False,
    }
    anatomy = _add(workflow, "anatomy", "anatomy", {}, t1w=str(t1w.absolute()), resolution=resolution)
    maps: dict[Path, Node] = {}
    for label, run in runs.items():
        readout, field_map = {}, {}
        if isinstance(given := run.field_map, PhaseDifference):
            readout = {"readout": given.readout(load_image(run.bold, 4).shape)}
            if given.phase not in maps:
                images = {"phase": str(given.phase.absolute()), "magnitude": str(given.magnitude.absolute())}
                about = {"echo_times": given.echo_times, "units": given.units}
                maps[given.phase] = _add(workflow, "field_map", f"field_map{len(maps)}", {"anatomy": anatomy}, **images, **about)
            field_map = {"field_map": maps[given.phase]}
        _add_run(workflow, label, run, {"anatomy": anatomy}, field_map, readout, resolution)
    return workflow


def _add_run(
    workflow: Workflow,
    label: str,
    run: Run,
    nodes: Nodes,
    field_map: Nodes,
    readout: dict[str, Any],
    resolution: float,
) -> None:
    def add(step: str, *before: str, **settings: Any) -> None:
        nodes[step] = _add(workflow, step, f"{step}_run{label}", {k: nodes[k] for k in before}, **settings)

    bold, grid = str(run.bold.absolute()), {"resolution": resolution, "tr": run.tr, "source": str(run.bold)}
    add("motion", bold=bold)
    add("slice_timing", bold=bold, slice_times=run.slice_times, slice_axis=run.slice_axis, tr=run.tr)
    nodes |= field_map
    add("coregistration", "anatomy", "motion", "slice_timing", *field_map, **readout)
    add("resampling", "anatomy", "motion", "slice_timing", "coregistration", **grid, **readout)
    add("confounds", "motion", "resampling", **grid)
    add("figure", "anatomy", "resampling", "confounds", **grid)


def run_workflow(workflow: Workflow, work_dir: Path) -> dict[str, dict[str, str]]:
    """Run the graph, and return the files of each step by name of its node.

    Raises:
        UserError: raised by a step.
    """
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
    return {node.name: node.result.outputs.files for node in graph.nodes()}
