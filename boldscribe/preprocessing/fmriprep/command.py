"""Command line of a subject's run: fMRIPrep's arguments, wrapped for the configured engine; no shell interprets it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from fmriprep_docker.__main__ import PKG_PATH  # type: ignore[import-untyped]

from boldscribe.config import Config
from boldscribe.config.data_settings import Preprocessing
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing.containers import pinned_digest
from boldscribe.preprocessing.fmriprep.options import Allotment, Places, arguments

INSIDE = Places(Path("/data"), Path("/out"), Path("/scratch"), Path("/opt/freesurfer/license.txt"))
TEMPLATES_INSIDE = "/templateflow"
# where the image keeps its bundled templates
TEMPLATES_OF_IMAGE = "/home/fmriprep/.cache/templateflow"
# the wrapper mounts only fMRIPrep's own folders and packages to be patched, so the templates are passed as such a package
PATCH = "boldscribe_templateflow"
# no process writes to the templates while jobs read them, and none accesses the network
TEMPLATES_AS_THEY_ARE = {"TEMPLATEFLOW_AUTOUPDATE": "off", "TEMPLATEFLOW_USE_DATALAD": "off"}


def command(config: Config, dataset: str, subject: str, places: Places, allotment: Allotment) -> list[str]:
    """Build the command line that preprocesses one subject with the engine `apptainer`, `docker` or `bare`.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        places: folders and licence on this machine.
        allotment: resources of the job.

    Raises:
        UserError: a path that cannot be mounted, or no digest of the image.
    """
    design, engine = config.datasets[dataset], config.preprocessing.engine
    if engine == "docker":
        own = arguments(config, design, subject, places, allotment)
        # positional arguments first: the wrapper's parser takes those after its options for fMRIPrep's
        return [sys.executable, "-m", "fmriprep_docker", *own[:3], *_wrapper_options(config, places), *own[3:]]
    if engine == "apptainer":
        return [*_apptainer(config.preprocessing, places), *arguments(config, design, subject, INSIDE, allotment)]
    return [config.preprocessing.fmriprep_command, *arguments(config, design, subject, places, allotment)]


def environment(config: Config) -> dict[str, str]:
    """Return the process environment; for `bare`, add the templates and drop variables that point fMRIPrep's Python to our packages."""
    if config.preprocessing.engine != "bare":
        return dict(os.environ)
    others = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    home = config.preprocessing.templateflow_home
    return others | ({"TEMPLATEFLOW_HOME": str(Path(home).absolute()), **TEMPLATES_AS_THEY_ARE} if home else {})


def image_reference(config: Config) -> str:
    """Return the image by digest, `IMAGE@sha256:…`: the tag is omitted, since docker does not list images by both.

    Raises:
        UserError: no digest is known.
    """
    return f"{repository(config.preprocessing.fmriprep_image)}@{pinned_digest(config)}"


def repository(image: str) -> str:
    """Return an image's name without its tag; a registry's port is not a tag."""
    name, _, tag = image.rpartition(":")
    return image if not name or "/" in tag else name


def apptainer_program() -> str:
    """Return `apptainer`, or `singularity` if only that is installed: they take the same options."""
    return "singularity" if shutil.which("apptainer") is None and shutil.which("singularity") else "apptainer"


def mountable(path: Path, setting: str, forbidden: str = ":,") -> str:
    """Return the path as text, if container engines can mount it.

    They parse `SOURCE:TARGET:OPTIONS` and comma-separated lists, without escapes.

    Raises:
        UserError: it contains such a separator.
    """
    if found := [character for character in forbidden if character in str(path)]:
        raise UserError(
            setting,
            f"found {str(path)!r}, expected a path without {' and '.join(repr(f) for f in found)}, which container engines cannot mount; "
            "rename the folder, or use a symbolic link with another name",
        )
    return str(path)


def _wrapper_options(config: Config, places: Places) -> list[str]:
    """Return the wrapper's own options; it also reads fMRIPrep's and mounts their files."""
    for path, setting in _mounted(places):
        mountable(path, setting)
    options = [
        "--image",
        image_reference(config),
        # a batch job has no terminal, and only root can delete what root owns
        "--no-tty",
        "--user",
        f"{os.getuid()}:{os.getgid()}",
        # the image is local, and templates come with it or from a folder: any network access is a mistake
        "--network",
        "none",
    ]
    if home := config.preprocessing.templateflow_home:
        folder = mountable(Path(home).absolute(), "preprocessing.templateflow_home", ":,=")
        options += ["--patch", f"{PATCH}={folder}", "--env", "TEMPLATEFLOW_HOME", f"{PKG_PATH}/{PATCH}"]
    for name, value in TEMPLATES_AS_THEY_ARE.items():
        options += ["--env", name, value]
    return options


def _apptainer(settings: Preprocessing, places: Places) -> list[str]:
    """Return an `apptainer run` that sees only the bound paths of this machine; home and /tmp are in the work folder, not in memory."""
    inside = (INSIDE.data, INSIDE.output, INSIDE.work, INSIDE.licence)
    binds = [f"{mountable(path, setting)}:{to}" for (path, setting), to in zip(_mounted(places), inside, strict=True)]
    binds[0] += ":ro"
    binds[3] += ":ro"
    templates = TEMPLATES_OF_IMAGE
    if settings.templateflow_home:
        templates = TEMPLATES_INSIDE
        binds.append(f"{mountable(Path(settings.templateflow_home).absolute(), 'preprocessing.templateflow_home')}:{templates}:ro")
    variables = {"TEMPLATEFLOW_HOME": templates, **TEMPLATES_AS_THEY_ARE}
    return [
        apptainer_program(),
        "run",
        "--containall",
        "--cleanenv",
        "--workdir",
        str(places.work / "apptainer"),
        "--pwd",
        str(INSIDE.work),
        *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
        *(part for bind in binds for part in ("--bind", bind)),
        str(Path(settings.fmriprep_sif).absolute()),
    ]


def _mounted(places: Places) -> list[tuple[Path, str]]:
    """Return the mounted paths, each with the setting that names it."""
    return [
        (places.data, "bids_dir"),
        (places.output, "paths.results"),
        (places.work, "paths.results"),
        (places.licence, "preprocessing.freesurfer_license"),
    ]
