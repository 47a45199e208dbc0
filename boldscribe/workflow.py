"""Registration of this workflow with the machinery; imported by programs, commands and rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boldscribe.closed_files import CLOSED
from boldscribe.config import Config
from boldscribe.machinery.registry import Need, Workflow, register
from boldscribe.machinery.steps.program import program
from boldscribe.machinery.steps.step_files import Files, Input, Inputs, Output

if TYPE_CHECKING:
    from boldscribe.machinery.runs.jobs import Job

__all__ = ["Config", "Files", "Input", "Inputs", "Output", "program"]


def needs(config: Config, jobs: Sequence[Job], results: Path, cores: int, at_once: int | None) -> Mapping[tuple[str, str], Need]:
    """Estimate what jobs need by the lines of the plan."""
    from boldscribe.planning.stages import estimates

    return estimates(config, jobs, results, cores, at_once)


def advise(host: str, configs: Sequence[Path], models: Sequence[str]) -> str:
    """Say how to get what a step tried to download."""
    from boldscribe.fetching.missing import advise

    return advise(host, configs, models)


register(
    Workflow(
        experiment=Config,
        closed=CLOSED,
        needs=needs,
        advise=advise,
        titles={
            "simulate_subject": "simulated",
            "fmriprep": "preprocessed",
            "bold_series": "series",
            "trials": "trials",
            "decode": "decoded",
            "scores": "scores",
            "fetch_pretraining": "fetched",
            "pretraining_series": "series",
        },
        smaller_on_gpu="`stage1.batch_size`; `stage2.batch_size` with a larger `stage2.accumulate`; `decoding.batch_size`",
    )
)
