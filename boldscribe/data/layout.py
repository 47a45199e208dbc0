"""BIDS layout: entity paths, runs, sidecars and events of raw data sets and of derivatives with fMRIPrep's names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bids.layout import Config, parse_file_entities
from bids.layout.writing import build_path

from boldscribe.data.images import load_image
from boldscribe.machinery.errors import UserError

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
    """Merge a file's JSON sidecars by the inheritance principle: those closer to the file override those closer to the root.

    Raises:
        UserError: a sidecar that is not JSON.
    """
    path, root = path.absolute(), Path(root).absolute()
    name_parts = path.name.split(".")[0].split("_")
    folders = [root, *reversed([p for p in path.parents if p.is_relative_to(root) and p != root])]
    merged: dict[str, Any] = {}
    for folder in folders:
        for sidecar in sorted(folder.glob(f"*{name_parts[-1]}.json"), key=lambda p: len(p.name)):
            if set(sidecar.stem.split("_")) <= set(name_parts):
                try:
                    merged |= json.loads(sidecar.read_text())
                except (OSError, ValueError, TypeError) as error:
                    raise UserError(str(sidecar), f"not a JSON object: {error}; repair it, or fetch its content") from None
    return merged
