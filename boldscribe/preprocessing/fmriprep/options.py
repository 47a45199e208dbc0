"""fMRIPrep's own arguments, which are the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.layout import resolution_label

# fMRIPrep does not benefit from more threads in one program of its workflow
MOST_THREADS_PER_PROGRAM = 8


@dataclass(frozen=True)
class Allotment:
    """Resources of a job: threads, and memory (MB)."""

    threads: int
    memory_mb: int


@dataclass(frozen=True)
class Places:
    """Paths of fMRIPrep's files; in a container, their mount points.

    Attributes:
        data: raw BIDS data set.
        output: fMRIPrep's outputs.
        work: intermediate files, and the BIDS filter.
        licence: FreeSurfer's licence file.
    """

    data: Path
    output: Path
    work: Path
    licence: Path

    @property
    def bids_filter(self) -> Path:
        """The BIDS filter file, which selects sessions and tasks."""
        return self.work / "bids_filter.json"


def bids_filter(design: Dataset) -> dict[str, dict[str, Any]]:
    """Return the content of the BIDS filter file: BOLD of the sessions and of several tasks; the T1w image may be from another session.

    It is empty for one task without sessions, which `--task-id` selects.
    """
    chosen: dict[str, Any] = {"session": design.session} if design.session else {}
    if isinstance(design.task, list):
        chosen["task"] = design.task  # `--task-id` takes one
    return {"bold": {"datatype": "func", "suffix": "bold", **chosen}} if chosen else {}


def arguments(config: Config, design: Dataset, subject: str, places: Places, allotment: Allotment) -> list[str]:
    """Build the arguments of one subject's run.

    Names are written in full, since fMRIPrep's parser and the wrapper's both accept abbreviations, each for its own options. The data
    are not validated again, and surfaces are not reconstructed, since nothing reads them.

    Args:
        config: the experiment.
        design: the data set.
        subject: label without `sub-`.
        places: paths of fMRIPrep's files.
        allotment: resources of the job.
    """
    settings = config.preprocessing
    return [
        str(places.data),
        str(places.output),
        "participant",
        "--participant-label",
        subject,
        *(["--task-id", design.task] if isinstance(design.task, str) else []),
        *(["--bids-filter-file", str(places.bids_filter)] if bids_filter(design) else []),
        "--output-spaces",
        f"{settings.space}:res-{resolution_label(settings.resolution)}",
        "--fs-no-reconall",
        "--fs-license-file",
        str(places.licence),
        "--skip-bids-validation",
        "--notrack",
        "--stop-on-first-crash",
        "--nthreads",
        str(allotment.threads),
        "--omp-nthreads",
        str(min(allotment.threads, MOST_THREADS_PER_PROGRAM)),
        # exactly this spelling: with any other the wrapper prompts on stdin if it finds less than 8 GB. A tenth is reserved for
        # Snakemake and for what fMRIPrep's estimates omit
        "--mem_mb",
        str(allotment.memory_mb * 9 // 10),
        "--work-dir",
        str(places.work),
    ]
