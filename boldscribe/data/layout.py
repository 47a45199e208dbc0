"""BIDS layout: entity paths, runs, sidecars and events of raw data sets and of derivatives with fMRIPrep's names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from bids.layout import Config, parse_file_entities
from bids.layout.writing import build_path

from boldscribe.config.run_choice import RunChoice, run_label
from boldscribe.machinery.errors import UserError

EQUALLY_SPECIFIC = "is as specific for"
# pybids' own patterns have no `res` entity
PATTERN = (
    "sub-{subject}[/ses-{session}]/{datatype}/sub-{subject}[_ses-{session}][_task-{task}][_run-{run}][_from-{from}][_to-{to}]"
    "[_mode-{mode}][_space-{space}][_res-{res}][_desc-{desc}]_{suffix}{extension}"
)


def entity_path(
    subject: str,
    *,
    datatype: str,
    suffix: str,
    extension: str,
    session: str | None = None,
    **entities: str | None,
) -> Path:
    """Build a file's path relative to its data set; entities that are None are omitted.

    Entities: `task`, `run`, `from`, `to`, `mode`, `space`, `res`, `desc`.
    """
    given = {"subject": subject, "session": session, "datatype": datatype, "suffix": suffix, "extension": extension, **entities}
    return Path(build_path({k: v for k, v in given.items() if v is not None}, [PATTERN], strict=True))


def resolution_label(resolution: float) -> str:
    """Return the `res` entity of isotropic voxels (mm): 2.0 gives `2`, 2.5 gives `2p5`."""
    return f"{resolution:g}".replace(".", "p")


def entities(path: Path) -> dict[str, str]:
    """Parse the entities of a file name, including the datatype folder, with pybids."""
    return {k: str(v) for k, v in parse_file_entities(str(path), entities=_patterns()).items()}


@cache
def _patterns() -> list[Any]:
    """Return the entities of BIDS and its derivatives; cached, since pybids would rebuild them for each file."""
    return list((Config.load("bids").entities | Config.load("derivatives").entities).values())


def find_runs(
    root: str | Path,
    subject: str,
    choice: RunChoice,
    suffix: str = "bold",
    extensions: Sequence[str] = (".nii", ".nii.gz"),
    **wanted: str | None,
) -> dict[str, Path]:
    """Find files of one kind by run label, sorted by label.

    Args:
        root: raw data set or derivatives.
        choice: the data set's runs.
        suffix, extensions: kind of file, such as `events` and `.tsv`.
        wanted: entities that must match, by their keys in file names; None requires their absence.

    Raises:
        UserError: two files for one run.
    """
    runs: dict[str, list[Path]] = {}
    for path in run_files(root, subject, choice, suffix, extensions):
        found = name_parts(path)
        if all(found.get(k) == v for k, v in wanted.items()):
            runs.setdefault(choice.label(found), []).append(path)
    chosen = {label: choose(files, choice.variant) for label, files in sorted(runs.items())}
    for label, files in chosen.items():
        if len(files) > 1:
            raise UserError(
                str(files[0].parent),
                f"run {label}: found {' and '.join(p.name for p in files)}, expected one file; {ways_to_choose(files)}",
            )
    return {label: files[0] for label, files in chosen.items() if files}


def run_files(
    root: str | Path, subject: str, choice: RunChoice, suffix: str = "bold", extensions: Sequence[str] = (".nii", ".nii.gz")
) -> list[Path]:
    """List all files of one kind of a subject's tasks and sessions, sorted by name within each session."""
    folders = [Path(root, f"sub-{subject}", *([f"ses-{session}"] if session else []), "func") for session in choice.sessions]
    files = [p for folder in folders for p in sorted(p for e in extensions for p in folder.glob(f"sub-{subject}_*_{suffix}{e}"))]
    return [p for p in files if name_parts(p).get("task") in choice.tasks]


def choose(files: Sequence[Path], variant: Mapping[str, str | None]) -> list[Path]:
    """Return the files of a run that the entities choose: those that state them, or else those that state no other value."""
    stated = [p for p in files if all(name_parts(p).get(k) == v for k, v in variant.items())]
    return stated or [p for p in files if all(name_parts(p).get(k) in (None, v) for k, v in variant.items())]


def ways_to_choose(files: Sequence[Path]) -> str:
    """Return how to choose among several files of a run, by the entities in which they differ."""
    found = [name_parts(p) for p in files]
    differ = [k for k in dict.fromkeys(k for one in found for k in one) if len({one.get(k) for one in found}) > 1]
    if not differ:
        return "remove the wrong one"
    ways = ["{" + ", ".join(f"{k}: {one.get(k, 'null')}" for k in differ) + "}" for one in found]
    return f"choose one in datasets.*.entities: {' or '.join(ways)}"


def find_t1w(root: str | Path, subject: str) -> Path | None:
    """Return the subject's T1w image, the first by name of any session, or None."""
    folder = Path(root) / f"sub-{subject}"
    return next(iter(sorted([*folder.glob("anat/*_T1w.nii*"), *folder.glob("ses-*/anat/*_T1w.nii*")])), None)


def metadata(path: Path, root: str | Path) -> dict[str, Any]:
    """Merge a file's JSON sidecars by the inheritance principle: the more specific override the others.

    Raises:
        UserError: a sidecar that is not JSON; two that are equally specific and contradict each other.
    """
    path, root = path.absolute(), Path(root).absolute()
    folders = [root, *reversed([p for p in path.parents if p.is_relative_to(root) and p != root])]
    suffix = path.name.split(".")[0].rpartition("_")[2]
    merged: dict[str, Any] = {}
    for equals in inherited(folders, suffix, ".json", name_parts(path)):
        contents = {sidecar: _json_object(sidecar) for sidecar in equals}
        for (one, first), (other, second) in combinations(contents.items(), 2):
            if contradicting := sorted(key for key in first.keys() & second.keys() if first[key] != second[key]):
                raise UserError(str(one), f"{contradicting[0]}: found another value than in {other}, which {EQUALLY_SPECIFIC} {path.name}")
        for content in contents.values():
            merged |= content
    return merged


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise TypeError(f"found {str(content)[:40]}")
        return content
    except (OSError, ValueError, TypeError) as error:
        raise UserError(str(path), f"not a JSON object: {error}; repair it, or fetch its content") from None


def find_events(root: str | Path, subject: str, choice: RunChoice, runs: Iterable[str]) -> dict[str, Path]:
    """Find the events of each run by the inheritance principle, by run label; runs without events are omitted.

    Args:
        root: raw data set. Its images need not be there, so that entities of the events that `choice` does not give are free.
        choice: the data set's runs.
        runs: run labels.

    Raises:
        UserError: two equally specific files.
    """
    found = {}
    for run in runs:
        named = {"sub": subject, **choice.parts(run), **choice.variant}
        folder = [f"sub-{subject}", *([f"ses-{named['ses']}"] if named["ses"] else []), "func"]
        folders = [Path(root).joinpath(*folder[:i]) for i in range(len(folder) + 1)]
        if fitting := inherited(folders, "events", ".tsv", named, free=True):
            if len(fitting[-1]) > 1:
                first, second = fitting[-1][:2]
                raise UserError(str(first), f"run {run}: found it and {second}, which {EQUALLY_SPECIFIC} the run; remove the wrong one")
            found[run] = fitting[-1][0]
    return found


def inherited(
    folders: Iterable[Path], suffix: str, extension: str, named: Mapping[str, str | None], free: bool = False
) -> list[list[Path]]:
    """List the files that apply to a file by the inheritance principle, from the least to the most specific.

    A file is more specific if it is in a folder closer to the file or, in the same folder, has more entities.

    Args:
        folders: from the data set's root to the folder of the file.
        suffix, extension: kind of the files to find, such as `events` and `.tsv`.
        named: `name_parts` of the file.
        free: accept entities that `named` does not have.

    Returns:
        lists of equally specific files.
    """
    found: list[list[Path]] = []
    for folder in folders:
        by_number: dict[int, list[Path]] = {}
        for path in sorted(p for p in folder.glob(f"*{suffix}{extension}") if not p.name.startswith(".")):
            parts = name_parts(path)
            if path.name.removesuffix(extension).rpartition("_")[2] == suffix and all(
                named[key] == value if key in named else free for key, value in parts.items()
            ):
                by_number.setdefault(len(parts), []).append(path)
        found += [by_number[number] for number in sorted(by_number)]
    return found


def name_parts(path: Path) -> dict[str, str]:
    """Return the entities in a file's name as BIDS abbreviates them (`sub`, `dir`, ...); run labels as `run_label` has them."""
    parts = dict(part.partition("-")[::2] for part in path.name.split(".")[0].split("_")[:-1])
    return parts | {"run": run_label(parts["run"])} if "run" in parts else parts
