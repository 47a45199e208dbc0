"""BIDS layout: entity paths, runs, sidecars and events of raw data sets and of derivatives with fMRIPrep's names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bids.layout import Config, parse_file_entities
from bids.layout.writing import build_path

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


def labels(path: Path) -> dict[str, str]:
    """Return the entities of a file name as BIDS abbreviates them, such as `dir` and `acq`; run labels as `run_label` has them."""
    found = dict(part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part)
    return found | ({"run": run_label(found["run"])} if "run" in found else {})


def find_runs(
    root: str | Path,
    subject: str,
    session: str | None,
    task: str,
    suffix: str = "bold",
    extensions: Sequence[str] = (".nii", ".nii.gz"),
    apart: Sequence[str] = (),
    variant: Mapping[str, str | None] = {},
    **wanted: str | None,
) -> dict[str, Path]:
    """Find files of one kind by run label, sorted by label.

    Args:
        root: raw data set or derivatives.
        suffix, extensions: kind of file, such as `events` and `.tsv`.
        apart: further entities that distinguish runs; if a file has them, they precede the run in the label: `LR_01` with `direction`.
        variant: entities that choose among several files of a run (`datasets.*.entities`).
        wanted: entities that must match; None requires their absence.

    Raises:
        UserError: two files for one run.
    """
    runs: dict[str, list[Path]] = {}
    for path in run_files(root, subject, session, task, suffix, extensions):
        found = entities(path)
        if all(found.get(k) == v for k, v in wanted.items()):
            label = "_".join([*(found[k] for k in apart if k in found), run_label(found.get("run"))])
            runs.setdefault(label, []).append(path)
    chosen = {label: choose(files, variant) for label, files in sorted(runs.items())}
    for label, files in chosen.items():
        if len(files) > 1:
            raise UserError(
                str(files[0].parent),
                f"run {label}: found {' and '.join(p.name for p in files)}, expected one file; {ways_to_choose(files)}",
            )
    return {label: files[0] for label, files in chosen.items() if files}


def run_files(
    root: str | Path, subject: str, session: str | None, task: str, suffix: str = "bold", extensions: Sequence[str] = (".nii", ".nii.gz")
) -> list[Path]:
    """List all files of one kind of a subject's task, sorted by name."""
    folder = Path(root).joinpath(f"sub-{subject}", *([f"ses-{session}"] if session else []), "func")
    files = sorted(p for e in extensions for p in folder.glob(f"sub-{subject}_*task-{task}_*{suffix}{e}"))
    return [p for p in files if (found := entities(p)).get("task") == task and found.get("suffix") == suffix]


def choose(files: Sequence[Path], variant: Mapping[str, str | None]) -> list[Path]:
    """Return the files of a run that the entities choose: those that state them, or else those that state no other value."""
    stated = [p for p in files if all(labels(p).get(k) == v for k, v in variant.items())]
    return stated or [p for p in files if all(labels(p).get(k) in (None, v) for k, v in variant.items())]


def ways_to_choose(files: Sequence[Path]) -> str:
    """Return how to choose among several files of a run, by the entities in which they differ."""
    found = [labels(p) for p in files]
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
                    content = json.loads(sidecar.read_text())
                    if not isinstance(content, dict):
                        raise TypeError(f"found {str(content)[:40]}")
                    merged |= content
                except (OSError, ValueError, TypeError) as error:
                    raise UserError(str(sidecar), f"not a JSON object: {error}; repair it, or fetch its content") from None
    return merged
