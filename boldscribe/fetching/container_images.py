"""Download of fMRIPrep's container image by digest, never by tag only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import requests

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, sha256_of, write_json
from boldscribe.preprocessing.containers import DIGEST, containers, pinned_digest

DEFAULT_REGISTRY = "https://registry-1.docker.io"  # of images without a host in their name
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
TIMEOUT = 30.0


def fetch_container(
    config: Config,
    engine: Literal["apptainer", "docker"],
    say: Callable[[str], None],
    *,
    registry: str | None = None,
    dry_run: bool = False,
) -> None:
    """Build the apptainer image file, or pull the docker image, from the pinned digest.

    Args:
        config: the experiment.
        engine: engine that will run the image.
        say: prints image, digest and licence.
        registry: address of the registry, which is asked for an unknown digest.
        dry_run: only print what would be fetched.

    Raises:
        UserError: the digest is unknown (the message contains the row to enter); the engine is not installed; its command failed; an
            image file with another digest exists.
    """
    image = config.preprocessing.fmriprep_image
    known = containers().get(image)
    licence = known.licence if known else "not stated"
    try:
        digest = pinned_digest(config)
    except UserError:
        found = registry_digest(image, registry)
        name, _, version = image.rpartition(":")
        raise UserError(
            "data/containers.csv",
            f"digest of {image}: found none, expected one before anything is fetched; the registry reports {found}. Compare it with "
            f"another source, and enter the row\n{name},{version},{found},{licence}",
        ) from None
    say(f"{image}@{digest}; licence: {licence}")
    pinned = f"{image.rpartition(':')[0]}@{digest}"
    if engine == "docker":
        say("  to docker's own store")
        if not dry_run:
            _run(["docker", "pull", pinned])
            # the wrapper knows images by their tag
            _run(["docker", "tag", pinned, image])
        return
    file = Path(config.preprocessing.fmriprep_sif)
    say(f"  to {file}")
    if file.exists():
        if origin_of(file) != pinned:
            raise UserError(
                str(file), f"found an image of {origin_of(file) or 'unknown origin'}, expected {pinned}; move it away to build it again"
            )
        return
    if not dry_run:
        program = next((name for name in ("apptainer", "singularity") if shutil.which(name)), "apptainer")
        with atomic(file) as part:
            _run([program, "build", "--disable-cache", str(part), f"docker://{pinned}"])
            write_json(origin_file(file), {"image": pinned, "sha256": sha256_of(part)})


def origin_file(sif: Path) -> Path:
    """Return the path of the JSON that records an apptainer file's source: `image` (with digest) and `sha256` of the file."""
    return sif.with_name(f"{sif.name}.json")


def origin_of(sif: Path) -> str:
    """Return image and digest that an apptainer file was built from; empty if not recorded."""
    try:
        return str(json.loads(origin_file(sif).read_text())["image"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def registry_digest(image: str, registry: str | None = None) -> str:
    """Query a registry for the digest of an image's tag.

    Raises:
        UserError: the registry did not answer, or its answer has no digest.
    """
    name, _, version = image.rpartition(":")
    host, _, rest = name.partition("/")
    if "." in host or ":" in host:
        registry, name = registry or f"https://{host}", rest
    elif not rest:
        name = f"library/{name}"
    url = f"{registry or DEFAULT_REGISTRY}/v2/{name}/manifests/{version}"
    headers = {"Accept": MANIFESTS}
    try:
        answer = requests.head(url, headers=headers, timeout=TIMEOUT)
        if answer.status_code == 401:
            challenge = dict(CHALLENGE.findall(answer.headers.get("WWW-Authenticate", "")))
            where = {k: challenge[k] for k in ("service", "scope") if k in challenge}
            token = requests.get(challenge["realm"], params=where, timeout=TIMEOUT).json()["token"]
            answer = requests.head(url, headers={**headers, "Authorization": f"Bearer {token}"}, timeout=TIMEOUT)
    except (requests.RequestException, KeyError, ValueError) as error:
        raise UserError(
            url, f"found no response ({type(error).__name__}), expected the digest of {image}; run this where there is a network"
        ) from None
    digest = answer.headers.get("Docker-Content-Digest", "")
    if answer.status_code != 200 or not DIGEST.fullmatch(digest):
        raise UserError(
            url,
            f"found response {answer.status_code} and digest {digest!r}, expected that of {image}; correct preprocessing.fmriprep_image",
        )
    return digest


def _run(command: list[str]) -> None:
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except FileNotFoundError:
        raise UserError(
            command[0], "found no such command, expected it for the configured preprocessing.engine; install it, or choose another engine"
        ) from None
    if code:
        raise UserError(" ".join(command), f"found exit code {code}, expected 0; see its messages above")
