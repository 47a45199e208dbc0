"""Raw data and weights that must be downloaded or provided, less what is already on disk."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.fetching.datasets import select
from boldscribe.machinery.download.manifest import manifest_path
from boldscribe.planning.costs import Cost
from boldscribe.planning.dataset_counts import Design

ANNEX_KEY = re.compile(r"^[A-Z0-9_]+-s(\d+)-")  # SHA256E-s143000000--digest.nii.gz


@dataclass(frozen=True)
class Fetched:
    """External files.

    Attributes:
        bytes, inodes: still to be placed on disk.
        missing: bytes of them that are downloaded; the user provides the others.
        known_from: manifest, or the kinds of the rows of `data/costs.csv`.
        sources: sources of these rows.
        assumed: what is not known.
    """

    bytes: float
    inodes: int
    missing: float
    known_from: str
    sources: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def raw_data(config: Config, name: str, design: Design, costs: list[Cost]) -> Fetched | None:
    """Return the missing files of a measured data set; None for a simulated one.

    With a manifest, the files that the experiment reads are counted individually. Without one, git-annex links without
    content are counted; otherwise an existing folder is considered complete. A missing folder gets the size that HAD would have with as
    many subjects, runs and clips.

    Raises:
        UserError: the manifest cannot be read.
    """
    dataset = config.datasets[name]
    if dataset.simulated:
        return None
    if dataset.manifest and manifest_path(dataset.manifest).is_file():
        return _of_manifest(config, name)
    if (Path(dataset.bids_dir) / "dataset_description.json").is_file():
        if (annexed := _annexed(Path(dataset.bids_dir))) is not None:
            return annexed
        note = f"{name}: {dataset.bids_dir} is assumed to be complete, since there is no manifest to check it against"
        return Fetched(0, 0, 0, "on disk", assumed=(note,) if dataset.manifest else ())
    amounts = {"subject": len(dataset.subjects), "run": design.source_runs + design.target_runs, "clip": design.clips["all"]}
    rows = [c for c in costs if c.stage == "raw"]
    size = sum(c.bytes_kept * amounts[c.unit] for c in rows)
    note = f"{name}: the manifest {dataset.manifest} does not exist; sizes as in HAD's git tree" if dataset.manifest else ""
    return Fetched(
        size,
        round(sum(c.inodes * amounts[c.unit] for c in rows)),
        size if dataset.manifest else 0,
        "published" if dataset.manifest else "to be provided",
        tuple(c.source for c in rows),
        (note,) if note else (),
    )


def _of_manifest(config: Config, name: str) -> Fetched:
    """Count the files that the experiment reads and that the folder does not hold in the stated size."""
    selection = select(config, name)
    absent = [entry.size for entry in selection.entries if _size(selection.folder / entry.path) != entry.size]
    n, there = len(selection.entries), len(selection.entries) - len(absent)
    return Fetched(sum(absent), len(absent), sum(absent), f"manifest, {there:,} of {n:,} present")


def _annexed(folder: Path) -> Fetched | None:
    """Count the files that git-annex holds only as links, whose names state the size; None if there is no such link."""
    links = [p.readlink().name for p in folder.rglob("*") if p.is_symlink() and not p.exists() and "derivatives" not in p.parts]
    sizes = [int(found[1]) for name in links if (found := ANNEX_KEY.match(name))]
    return Fetched(sum(sizes), len(sizes), sum(sizes), f"git-annex, {len(sizes):,} to fetch") if sizes else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def weights(config: Config, costs: list[Cost]) -> Fetched:
    """Count the configured weights, container image and templates that are missing."""
    wanted = {key: place for key, (_, place) in config.model_places.items()}
    if config.preprocessing.engine == "apptainer":
        wanted["preprocessing.fmriprep_sif"] = config.preprocessing.fmriprep_sif
    if config.preprocessing.runs_fmriprep:
        wanted["preprocessing.templateflow_home"] = config.preprocessing.templateflow_home
    absent = {key for key, place in wanted.items() if place not in (None, "embedded") and not os.path.lexists(str(place))}
    rows = [c for c in costs if c.stage == "weights" and c.variant in absent]
    size = sum(c.bytes_kept for c in rows)
    kinds = ", ".join(dict.fromkeys(c.kind for c in rows)) or "on disk"
    return Fetched(size, round(sum(c.inodes for c in rows)), size, kinds, tuple(f"{c.variant}: {c.source}" for c in rows))
