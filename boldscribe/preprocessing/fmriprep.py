"""fMRIPrep in its container, through the `fmriprep-docker` wrapper."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fmriprep_docker.__main__ import TF_TEMPLATES  # type: ignore[import-untyped]

from boldscribe.bids import find_preprocessed, resolution_label
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import write_json

# of TemplateFlow's volumetric templates; fMRIPrep itself accepts any number here and fails hours later
RESOLUTIONS = (1.0, 2.0)
MEMORY_MB = 24000


def fmriprep_argv(
    config: Config,
    dataset: str,
    subject: str,
    output_dir: Path,
    work_dir: Path,
    *,
    n_threads: int = 8,
    memory_mb: int = MEMORY_MB,
) -> list[str]:
    """The command line of `fmriprep-docker`.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder; outside the data set.
        n_threads, memory_mb: what the job may use.

    Raises:
        UserError: a space or resolution that fMRIPrep's templates lack, or no FreeSurfer licence.
    """
    settings, design = config.preprocessing, config.datasets[dataset]
    if settings.space not in TF_TEMPLATES:
        raise UserError("preprocessing.space", f"found {settings.space}, expected one of {', '.join(TF_TEMPLATES)}; change it")
    if settings.resolution not in RESOLUTIONS:
        raise UserError("preprocessing.resolution", f"found {settings.resolution:g} mm, expected 1 or 2, as the templates; change it")
    # full names only: the wrapper's parser takes abbreviations for its own options
    argv = [
        sys.executable,
        "-m",
        "fmriprep_docker",
        str(Path(design.bids_dir).absolute()),
        str(output_dir.absolute()),
        "participant",
        "--image",
        settings.fmriprep_image,
        # a batch job has no terminal, and what root owns nobody else can delete
        "--no-tty",
        "--user",
        f"{os.getuid()}:{os.getgid()}",
        "--work-dir",
        str(work_dir.absolute()),
        "--fs-license-file",
        str(license_file(config)),
        "--output-spaces",
        f"{settings.space}:res-{resolution_label(settings.resolution)}",
        "--participant-label",
        subject,
        "--task-id",
        design.task,
        "--fs-no-reconall",
        "--skip-bids-validation",
        "--notrack",
        "--stop-on-first-crash",
        "--nthreads",
        str(n_threads),
        "--omp-nthreads",
        str(min(n_threads, 8)),
        # under 8 GB the wrapper asks on stdin, unless this very flag is given
        "--mem_mb",
        str(memory_mb),
    ]
    if design.session:
        argv += ["--bids-filter-file", str(work_dir.absolute() / "bids_filter.json")]
    return argv


def license_file(config: Config) -> Path:
    """FreeSurfer's licence file, which fMRIPrep asks for even without surface reconstruction.

    Raises:
        UserError: none configured, or it does not exist.
    """
    configured = config.preprocessing.freesurfer_license or os.environ.get("FS_LICENSE")
    if not configured or not Path(configured).is_file():
        raise UserError(
            "preprocessing.freesurfer_license",
            f"found {configured!r}, expected FreeSurfer's licence file (free on registration with "
            "FreeSurfer); set the key or the FS_LICENSE variable, or choose the engine 'embedded'",
        )
    return Path(configured).absolute()


def check_docker() -> None:
    """Ask for a running docker daemon; the wrapper's own test misses the daemon's present message.

    Raises:
        UserError: no docker, or no daemon that answers this user.
    """
    remedy = "install and start docker, or choose the engine 'embedded' or 'derivatives'"
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise UserError("docker", f"found no such command, expected it for preprocessing.engine 'docker'; {remedy}") from None
    except subprocess.TimeoutExpired:
        raise UserError("docker info", f"found no answer within a minute, expected that of the daemon; {remedy}") from None
    if answer.returncode != 0:
        message = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError("docker info", f"found {message!r}, expected the daemon's answer; {remedy}")


def run_fmriprep(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> None:
    """Preprocess one subject with fMRIPrep.

    Threads are those of the job (OMP_NUM_THREADS, which Snakemake sets). The work folder stays after a failure, so that fMRIPrep
    goes on where it stopped.

    Raises:
        UserError: what `fmriprep_argv` and `check_docker` find, an exit code, or missing outputs.
    """
    argv = fmriprep_argv(config, dataset, subject, output_dir, work_dir, n_threads=int(os.environ.get("OMP_NUM_THREADS", "1")))
    check_docker()
    design = config.datasets[dataset]
    for folder in (output_dir, work_dir):
        # else the daemon makes it, as root
        folder.mkdir(parents=True, exist_ok=True)
    if design.session:
        write_json(work_dir / "bids_filter.json", {"bold": {"datatype": "func", "suffix": "bold", "session": design.session}})
    code = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        raise UserError(
            f"sub-{subject}",
            f"fMRIPrep ended with exit code {code}, expected 0; see its messages above and the crash files in "
            f"{output_dir / f'sub-{subject}' / 'log'}",
        )
    find_preprocessed(output_dir, subject, design.session, design.task, config.preprocessing.space, config.preprocessing.resolution)
    shutil.rmtree(work_dir, ignore_errors=True)


def image_version(image: str) -> dict[str, str | None]:
    """Name and registry digest of a container image as docker has it; no digest for an image that was built here."""
    command = ["docker", "image", "inspect", "--format", '{{join .RepoDigests " "}}', image]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    digests = answer.stdout.split() if answer.returncode == 0 else []
    return {"image": image, "digest": digests[0].rpartition("@")[2] if digests else None}
