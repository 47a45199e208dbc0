"""Container images that may run, by name, version and digest, from `data/containers.csv`.

A tag can be moved to another image; the digest of the image's manifest cannot. No image is run, pulled or built without a digest.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT

TABLE = ROOT / "data" / "containers.csv"
COLUMNS = ["image", "version", "digest", "licence"]
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Container:
    """A row of the table.

    Attributes:
        image: repository, without a registry for Docker Hub: `nipreps/fmriprep`.
        version: tag.
        digest: of the manifest, `sha256:` and 64 hexadecimal digits; empty if not entered yet.
        licence: SPDX identifier.
    """

    image: str
    version: str
    digest: str
    licence: str

    @property
    def name(self) -> str:
        """Image and tag, as in `preprocessing.fmriprep_image`."""
        return f"{self.image}:{self.version}"


def containers(table: Path = TABLE) -> dict[str, Container]:
    """Read the rows of the table, by `image:version`.

    Raises:
        UserError: no table, a missing column, an invalid digest, or a duplicate image.
    """
    try:
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        raise UserError(str(table), "the table of containers does not exist; restore it from the repository") from None
    found: dict[str, Container] = {}
    for number, row in enumerate(rows, 2):
        if list(row) != COLUMNS or None in row.values():
            raise UserError(str(table), f"line {number}: columns: found {', '.join(map(str, row))}; expected {', '.join(COLUMNS)}")
        container = Container(**row)
        if container.digest and not DIGEST.fullmatch(container.digest):
            raise UserError(
                str(table), f"line {number}: digest: found {container.digest!r}, expected sha256: and 64 hexadecimal digits; correct it"
            )
        if container.name in found:
            raise UserError(str(table), f"line {number}: {container.name} is listed twice; remove one of the rows")
        found[container.name] = container
    return found


def pinned_digest(config: Config, table: Path = TABLE) -> str:
    """Return the digest of the fMRIPrep image that may run: `preprocessing.fmriprep_digest`, else that of the table.

    Returns:
        `sha256:` and 64 hexadecimal digits.

    Raises:
        UserError: neither has one.
    """
    image = config.preprocessing.fmriprep_image
    if config.preprocessing.fmriprep_digest:
        return config.preprocessing.fmriprep_digest
    known = containers(table).get(image)
    if known is None or not known.digest:
        raise UserError(
            "preprocessing.fmriprep_digest",
            f"found none for {image}, neither here nor in data/{table.name}; expected sha256: and 64 hexadecimal digits; "
            "run `boldscribe fetch containers`, which asks the registry and prints the row to enter",
        )
    return known.digest
