"""BIDS layout: entity paths, runs, sidecars and events of raw data sets and of derivatives with fMRIPrep's names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from bids.layout import Config, parse_file_entities
from bids.layout.writing import build_path

from boldscribe.data.images import load_image
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


def run_label(label: str | int | None) -> str:
    """Normalise a run label for comparison and storage: two digits for numbers; a file without `run` is run 01.

    fMRIPrep keeps the raw name, and data sets use both `run-1` and `run-01`.
    """
    text = "01" if label is None else str(label)
    return f"{int(text):02d}" if text.isdigit() else text


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
    session: str | None,
    task: str,
    suffix: str = "bold",
    extensions: Sequence[str] = (".nii", ".nii.gz"),
    apart: Sequence[str] = (),
    **wanted: str | None,
) -> dict[str, Path]:
    """Find files of one kind by run label, sorted by label.

    Args:
        root: raw data set or derivatives.
        suffix, extensions: kind of file, such as `events` and `.tsv`.
        apart: further entities that distinguish runs; if a file has them, they precede the run in the label: `LR_01` with `direction`.
        wanted: entities that must match; None requires their absence.

    Raises:
        UserError: two files for one run.
    """
    parts = [f"sub-{subject}", *([f"ses-{session}"] if session else []), "func"]
    folder = Path(root).joinpath(*parts)
    runs: dict[str, Path] = {}
    for path in sorted(p for e in extensions for p in folder.glob(f"sub-{subject}_*task-{task}_*{suffix}{e}")):
        found = entities(path)
        if found.get("task") != task or found.get("suffix") != suffix or any(found.get(k) != v for k, v in wanted.items()):
            continue
        label = "_".join([*(found[k] for k in apart if k in found), run_label(found.get("run"))])
        if label in runs:
            raise UserError(str(folder), f"run {label}: found {runs[label].name} and {path.name}, expected one file; remove the wrong one")
        runs[label] = path
    return dict(sorted(runs.items()))


def find_preprocessed(
    root: Path, subject: str, session: str | None, task: str, space: str, resolution: float, apart: Sequence[str] = ()
) -> dict[str, Path]:
    """Find preprocessed runs in the requested space and resolution, by label.

    Older fMRIPrep omits `res`, as do spaces requested without resolution; then the voxel size decides.

    Raises:
        UserError: none found.
    """
    res = resolution_label(resolution)
    runs = find_runs(root, subject, session, task, apart=apart, space=space, res=res, desc="preproc")
    if not runs:
        unlabelled = find_runs(root, subject, session, task, apart=apart, space=space, res=None, desc="preproc")
        zooms = {path: load_image(path, 4).header.get_zooms()[:3] for path in unlabelled.values()}
        runs = {label: path for label, path in unlabelled.items() if np.allclose(zooms[path], resolution, atol=0.01)}
    if not runs:
        there = sorted({p.name.split("_", 1)[1] for p in (root / f"sub-{subject}").rglob("*desc-preproc_bold.nii.gz")})
        if not there and any((root / f"sub-{subject}").rglob("func/*_xfm.*")):
            raise UserError(
                str(root / f"sub-{subject}"),
                "preprocessed BOLD: found none, but transforms, as fMRIPrep's --level minimal or resampling writes them; expected "
                f"task-{task}…desc-preproc_bold.nii.gz; resample the raw BOLD with these transforms (preprocessing.engine: minimal)",
            )
        raise UserError(
            str(root / f"sub-{subject}"),
            f"preprocessed BOLD: found {', '.join(there[:4]) or 'none'}; expected "
            f"task-{task}…space-{space}_res-{res}_desc-preproc_bold.nii.gz; correct preprocessing.space and resolution, task, session",
        )
    return runs


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
        contents = {}
        for sidecar in equals:
            try:
                contents[sidecar] = dict(json.loads(sidecar.read_text()))
            except (OSError, ValueError, TypeError) as error:
                raise UserError(str(sidecar), f"not a JSON object: {error}; repair it, or fetch its content") from None
        for (one, first), (other, second) in combinations(contents.items(), 2):
            if contradicting := sorted(key for key in first.keys() & second.keys() if first[key] != second[key]):
                raise UserError(str(one), f"{contradicting[0]}: found another value than in {other}, which {EQUALLY_SPECIFIC} {path.name}")
        for content in contents.values():
            merged |= content
    return merged


def find_events(
    root: str | Path, subject: str, session: str | None, task: str, runs: Iterable[str], variant: Mapping[str, str | None] = {}
) -> dict[str, Path]:
    """Find the events of each run by the inheritance principle, by run label; runs without events are omitted.

    Args:
        root: raw data set. Its images need not be there, so that other entities of the events are free, unless `variant` gives them.
        runs: run labels.
        variant: further entities of the runs, by their keys in file names; None for entities that the runs do not have.

    Raises:
        UserError: two equally specific files.
    """
    of_session = [f"ses-{session}"] if session else []
    parts = [f"sub-{subject}", *of_session, "func"]
    folders = [Path(root).joinpath(*parts[:i]) for i in range(len(parts) + 1)]
    found = {}
    for run in runs:
        named = {"sub": subject, "ses": session, "task": task, "run": run, **variant}
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
    """Return the entities in a file's name by their keys (`sub`, `task`, ...), with normalised run label."""
    parts = dict(part.partition("-")[::2] for part in path.name.split(".")[0].split("_")[:-1])
    return parts | {"run": run_label(parts["run"])} if "run" in parts else parts
