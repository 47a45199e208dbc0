"""The workflow that everything else here serves: what has to be known of its method, registered once (`boldscribe.workflow`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boldscribe.machinery.configuration import Experiment


@dataclass(frozen=True)
class Places:
    """Locations of raw data: folders of data sets; folders whose whole content is closed, and single closed files, with their kinds."""

    datasets: list[Path] = field(default_factory=list)
    folders: dict[Path, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClosedFiles:
    """Files that a step may open only if they are among its inputs, since they reveal what it must not know.

    Attributes:
        in_results: kind → names below the results.
        result_folders: folders of the results that hold any of them, which the kernel closes.
        in_data: kind → names below the folder of a data set.
        places: returns where the raw data of an experiment are, except those of data sets whose files are inputs.
        cached: kind of what others made from the same files (`paths.cache`).
        openers: kind → which steps may open such files.
        lister: rule that lists raw data with their digests, before any step can declare them.
    """

    in_results: Mapping[str, re.Pattern[str]]
    result_folders: tuple[str, ...]
    in_data: Mapping[str, re.Pattern[str]]
    places: Callable[[Any, Collection[str]], Places]
    cached: str
    openers: Mapping[str, str]
    lister: str


@dataclass(frozen=True)
class Need:
    """Needs of a job: wall time (s), cores, GPUs."""

    seconds: float
    cores: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class Workflow:
    """Facts about a method.

    Attributes:
        experiment: class of its configuration.
        closed: files that a step may open only if they are among its inputs.
        needs: estimates what jobs need: data set (empty for none) and rule → need. Its arguments are the experiment, the jobs, the
            results tree, the cores of this machine, and the number of simultaneous jobs if it is limited.
        advise: says how to get what a step tried to download, by host, configuration files, and names of the step's models.
        titles: rule → title of its column in the table of subjects.
        smaller_on_gpu: what to change in the configuration if a GPU's memory is too small.
    """

    experiment: type[Experiment]
    closed: ClosedFiles
    needs: Callable[[Any, Sequence[Any], Path, int, int | None], Mapping[tuple[str, str], Need]]
    advise: Callable[[str, Sequence[Path], Sequence[str]], str]
    titles: Mapping[str, str]
    smaller_on_gpu: str


_registered: list[Workflow] = []


def register(workflow: Workflow) -> None:
    """Make a workflow the one that commands and steps serve."""
    _registered[:] = [workflow]


def the_workflow() -> Workflow:
    """Return the registered workflow.

    Raises:
        LookupError: none is registered: the program does not import `boldscribe.workflow`.
    """
    if not _registered:
        raise LookupError("no workflow is registered; import boldscribe.workflow first")
    return _registered[0]
