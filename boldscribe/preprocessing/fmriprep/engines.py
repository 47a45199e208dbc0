"""Checks that the configured engine responds and would run the pinned fMRIPrep."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psutil

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing.containers import pinned_digest
from boldscribe.preprocessing.fmriprep.command import apptainer_program, environment, image_reference, repository

OTHERS = "or choose another preprocessing.engine"
# names the image that a .sif was built from, if it was built by digest
SOURCE_LABEL = "org.label-schema.usage.singularity.deffile.from"


def ask(*command: str, remedy: str, env: dict[str, str] | None = None) -> str:
    """Run a program and return its output, stripped.

    Raises:
        UserError: no such program, no response within a minute, or a non-zero exit code.
    """
    name = " ".join(command[:2])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, env=env)
    except OSError:
        raise UserError(command[0], f"found no such program, expected it to run fMRIPrep; {remedy}") from None
    except subprocess.TimeoutExpired:
        raise UserError(name, f"found no response within a minute, expected one; {remedy}") from None
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"])[-1]
        raise UserError(name, f"found {message!r}, expected exit code 0; {remedy}")
    return done.stdout.strip()


def check_engine(config: Config) -> str:
    """Check the engine, and return its name and version.

    Raises:
        UserError: it is not installed, or its daemon does not respond to this user.
    """
    engine = config.preprocessing.engine
    if engine == "docker":
        # the wrapper's own test misses what current clients report without a daemon
        remedy = f"install docker, start its daemon, and give this user access to it, {OTHERS}"
        return f"docker {ask('docker', 'info', '--format', '{{.ServerVersion}}', remedy=remedy)}"
    if engine == "apptainer":
        return ask(apptainer_program(), "--version", remedy=f"install apptainer or load its module, {OTHERS}")
    return f"{config.preprocessing.fmriprep_command}: {_bare_version(config)}"


def check_image(config: Config) -> str:
    """Check the image, and return it with its digest; for `bare` the version, which must be the image's tag.

    Raises:
        UserError: no image, one that is not the pinned image, one without recorded origin, or no digest to compare with.
    """
    if config.preprocessing.engine == "docker":
        return _docker_image(config)
    if config.preprocessing.engine == "apptainer":
        return _apptainer_image(config)
    pinned, found = config.preprocessing.fmriprep_image.rpartition(":")[2], _bare_version(config).rpartition("v")[2]
    if found != pinned:
        raise UserError(
            "preprocessing.fmriprep_command",
            f"found fMRIPrep {found}, expected {pinned} as in preprocessing.fmriprep_image; install that version, or change the tag",
        )
    return f"fMRIPrep {found}"


def check_daemon_memory(config: Config, needed_mb: int) -> str:
    """Check the memory of the machine on which the engine runs: docker's daemon may have less than its host.

    Raises:
        UserError: less memory than needed.
    """
    if config.preprocessing.engine == "docker":
        total = int(ask("docker", "info", "--format", "{{.MemTotal}}", remedy="start docker's daemon")) / 1e6
        whose, remedy = "docker's daemon", "give its virtual machine more memory, or run elsewhere"
    else:
        total, whose, remedy = memory_mb(), "this machine", "run elsewhere"
    if total < needed_mb:
        raise UserError("memory", f"found {total:.0f} MB in {whose}, expected at least {needed_mb} MB; {remedy}")
    return f"{total:.0f} MB"


def memory_mb() -> float:
    """Return the memory that processes here may use (MB): the machine's, or their control group's."""
    total = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total / 1e6


def _docker_image(config: Config) -> str:
    reference = image_reference(config)
    remedy = f"run `docker pull {reference}` (as `boldscribe fetch containers` does) on a machine with network access"
    try:
        ask("docker", "image", "inspect", "--format", "{{.Id}}", reference, remedy=remedy)
    except UserError:
        tagged = config.preprocessing.fmriprep_image
        try:
            digests = ask("docker", "image", "inspect", "--format", '{{join .RepoDigests " "}}', tagged, remedy=remedy)
        except UserError:
            found = "no such image"
        else:
            found = f"{tagged} with " + (digests or "no digest, as usual for an image that was built or loaded from a file")
        raise UserError("docker image", f"found {found}, expected {reference}; {remedy}") from None
    return reference


def _apptainer_image(config: Config) -> str:
    sif, pinned = Path(config.preprocessing.fmriprep_sif).absolute(), pinned_digest(config)
    repo = repository(config.preprocessing.fmriprep_image)
    remedy = f"run `apptainer build {sif.name} docker://{repo}@{pinned}` (as `boldscribe fetch containers` does)"
    if not sif.is_file() or not sif.stat().st_size:
        raise UserError("preprocessing.fmriprep_sif", f"found no image {sif}, expected one; {remedy}")
    found = _recorded_digest(sif, remedy)
    if found != pinned:
        raise UserError(f"preprocessing.fmriprep_sif {sif}", f"digest: found {found or 'none'}, expected {pinned}; {remedy}")
    return f"{repo}@{found}, {sif}"


def _recorded_digest(sif: Path, remedy: str) -> str | None:
    """Return the digest of the image that a .sif was made from: by its own label, else by `NAME.sif.json`, written when fetching."""
    inspected = ask(apptainer_program(), "inspect", "--json", str(sif), remedy=remedy)
    try:
        labels = json.loads(inspected)["data"]["attributes"]["labels"] or {}
        beside = sif.with_name(f"{sif.name}.json")
        source = labels.get(SOURCE_LABEL, "")
        if "@" not in source and beside.is_file():
            source = json.loads(beside.read_text())["image"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(str(sif), f"labels: found unreadable content ({error!r}), expected JSON; {remedy}") from None
    return str(source).partition("@")[2] or None


def _bare_version(config: Config) -> str:
    remedy = f"set preprocessing.fmriprep_command to the program in fMRIPrep's own environment, {OTHERS}"
    return ask(config.preprocessing.fmriprep_command, "--version", remedy=remedy, env=environment(config)).splitlines()[-1]
