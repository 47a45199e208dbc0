"""fMRIPrep's own arguments, which are the same whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.bids import resolution_label
from boldscribe.config import Config
from boldscribe.sections.data import Dataset

# fMRIPrep gains nothing from more threads in one program of its workflow
MOST_THREADS_PER_PROGRAM = 8


@dataclass(frozen=True)
class Allotment:
    """What a job may use: threads, and memory (MB)."""

    threads: int
    memory_mb: int


@dataclass(frozen=True)
class Places:
    """Where fMRIPrep finds its files; in a container, where they are mounted.

    Attributes:
        data: raw BIDS data set.
        output: what it writes.
        work: intermediate files, and the BIDS filter.
        licence: of FreeSurfer.
    """

    data: Path
    output: Path
    work: Path
    licence: Path

    @property
    def session_filter(self) -> Path:
        """The BIDS filter file, which names the session."""
        return self.work / "bids_filter.json"


def session_filter(session: str) -> dict[str, dict[str, Any]]:
    """Content of the BIDS filter file: BOLD of one session; the T1w image may be of another."""
    return {"bold": {"datatype": "func", "suffix": "bold", "session": session}}


def arguments(config: Config, design: Dataset, subject: str, places: Places, allotment: Allotment) -> list[str]:
    """The arguments of one subject's run.

    Names are written in full, since fMRIPrep's parser and the wrapper's both take abbreviations, each for options of its own. The
    data are not validated once more; surfaces are not made, since nothing reads them.

    Args:
        config: the experiment.
        design: the data set.
        subject: label without `sub-`.
        places: where fMRIPrep finds its files.
        allotment: what the job may use.
    """
    settings = config.preprocessing
    return [
        str(places.data),
        str(places.output),
        "participant",
        "--participant-label",
        subject,
        "--task-id",
        design.task,
        *(["--bids-filter-file", str(places.session_filter)] if design.session else []),
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
        # in this very spelling: with another the wrapper asks on stdin where it finds less than 8 GB. A tenth is left to Snakemake and
        # to what fMRIPrep's estimates leave out
        "--mem_mb",
        str(allotment.memory_mb * 9 // 10),
        "--work-dir",
        str(places.work),
    ]
