"""Preflight of fMRIPrep: find problems that would stop it or spoil its results before a job is queued.

`boldscribe doctor` shows the same findings. A job checks again when it starts, since a cluster's nodes differ.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing.fmriprep.engines import check_daemon_memory, check_engine, check_image, memory_mb
from boldscribe.preprocessing.fmriprep.options import Allotment
from boldscribe.preprocessing.fmriprep.templates import check_templates

# below this, fMRIPrep's wrapper warns that it may fail
LEAST_MEMORY_MB = 8000
# estimated space for a subject's intermediate files: several uncompressed copies of each run
LEAST_DISK = 20e9
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Result of one check: its name, what was found, or the error that prevents a run."""

    name: str
    found: str = ""
    error: UserError | None = None


def examine(config: Config, datasets: Sequence[str]) -> list[Finding]:
    """Run all checks, even after failures; checks that query the engine are skipped if it does not respond.

    Args:
        config: the experiment, with the engine `apptainer`, `docker` or `bare`.
        datasets: names in `config.datasets`.
    """
    engine = _look("engine", lambda: check_engine(config))
    findings = [engine]
    if engine.error is None:
        findings.append(_look("image", lambda: check_image(config)))
        if config.preprocessing.engine == "docker":
            findings.append(_look("memory", lambda: check_daemon_memory(config, LEAST_MEMORY_MB)))
    findings.append(_look("templates", lambda: check_templates(config.preprocessing)))
    findings.append(_look("licence", lambda: str(license_file(config))))
    for name in datasets:
        findings.append(_look(f"folders: {name}", lambda name=name: check_folders(config, name)))  # type: ignore[misc]
        findings.append(_look(f"links: {name}", lambda name=name: check_links(config, name)))  # type: ignore[misc]
    return findings


def check(config: Config, dataset: str, allotment: Allotment | None = None) -> dict[str, str]:
    """Check that fMRIPrep can run on a data set here.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        allotment: resources of the job; None before there is a job.

    Returns:
        what was found, by name of the check.

    Raises:
        UserError: all errors at once.
    """
    findings = examine(config, [dataset])
    if allotment is not None:
        findings.append(_look("job's memory", lambda: check_allotment(allotment)))
    if errors := [f.error for f in findings if f.error is not None]:
        raise errors[0] if len(errors) == 1 else UserError("fMRIPrep cannot run", *map(str, errors))
    return {f.name: f.found for f in findings}


def _look(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, look())
    except UserError as error:
        return Finding(name, error=error)


def license_file(config: Config) -> Path:
    """Return FreeSurfer's licence file, which fMRIPrep requires even without surface reconstruction.

    Raises:
        UserError: none configured, it does not exist, or it is empty.
    """
    configured = config.preprocessing.freesurfer_license or os.environ.get("FS_LICENSE")
    remedy = "it is free on registration with FreeSurfer: set the key or the FS_LICENSE variable, or choose the engine 'embedded'"
    if not configured or not Path(configured).is_file():
        raise UserError("preprocessing.freesurfer_license", f"found {configured!r}, expected FreeSurfer's licence file; {remedy}")
    if not Path(configured).read_text(errors="replace").strip():
        raise UserError("preprocessing.freesurfer_license", f"found the empty file {configured}, expected FreeSurfer's licence; {remedy}")
    return Path(configured).absolute()


def check_allotment(allotment: Allotment) -> str:
    """Check that the job's memory suffices for fMRIPrep and is available on the node.

    Raises:
        UserError: less than fMRIPrep needs, or more than the node has.
    """
    remedy = "set it with `--set-resources fmriprep:mem_mb=24000`, or in the profile"
    if allotment.memory_mb < LEAST_MEMORY_MB:
        raise UserError("memory", f"found {allotment.memory_mb} MB for the job, expected at least {LEAST_MEMORY_MB} MB; {remedy}")
    if allotment.memory_mb > memory_mb():
        raise UserError(
            "memory", f"found {allotment.memory_mb} MB for the job, expected at most this node's {memory_mb():.0f} MB; {remedy}"
        )
    return f"{allotment.memory_mb} MB for the job"


def check_folders(config: Config, dataset: str) -> str:
    """Check that the output folders are outside the raw data, writable, with enough space, and not owned by root.

    Raises:
        UserError: one that is not.
    """
    results = Path(config.paths.results).absolute()
    work, output = results / "work" / "fmriprep", results / "derivatives" / dataset
    raw = Path(config.datasets[dataset].bids_dir).resolve()
    if work.resolve().is_relative_to(raw):
        raise UserError(
            "paths.results", f"found the work folder {work} inside the BIDS folder {raw}, expected it outside; change paths.results"
        )
    remedy = "change paths.results"
    for folder in (work, output):
        there = next(p for p in [folder, *folder.parents] if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError("paths.results", f"found {there}, which this user cannot write to, expected a writable folder; {remedy}")
    for folder in filter(Path.exists, (output, work)):
        if owned_by_root(folder):
            raise UserError(
                str(folder),
                f"owner: found root (typical after docker), expected this user; run `sudo chown -R {os.geteuid()} {folder}`, or {remedy}",
            )
    place = next(p for p in [work, *work.parents] if p.exists())
    if (free := shutil.disk_usage(place).free) < LEAST_DISK:
        raise UserError(
            str(place),
            f"disk: found {free / 1e9:.1f} GB free, expected {LEAST_DISK / 1e9:.0f} GB for a subject's work; make room, or {remedy}",
        )
    return f"{results}, {free / 1e9:.0f} GB free"


def owned_by_root(folder: Path) -> bool:
    """Return whether a folder is owned by root and this user is not root."""
    return folder.stat().st_uid == 0 != os.geteuid()


def check_links(config: Config, dataset: str) -> str:
    """Check that no raw file links to a target outside the data set, which a container would not see.

    Raises:
        UserError: such links exist.
    """
    root = Path(config.datasets[dataset].bids_dir)
    if config.preprocessing.engine == "bare":
        return "not relevant to the engine 'bare'"
    subjects = sorted(root.glob("sub-*"))
    read = [*root.glob("*.json"), *root.glob("*.tsv"), *subjects, *(p for subject in subjects for p in subject.rglob("*"))]
    links = [p for p in read if p.is_symlink()]
    outside = [str(p) for p in links if not p.resolve().is_relative_to(root.resolve())]
    if outside:
        raise UserError(
            str(root),
            f"links: found {len(outside)} that point outside the data set ({', '.join(outside[:SHOWN])}), expected none, since a container "
            "sees only the data set's folder; replace the links with the files",
        )
    return f"{len(links)} links, all inside"
