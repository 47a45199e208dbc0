"""External files that may enter a run: assets of the lock `data/versions.csv`, and files of a raw data set's manifest.

A row of the lock states which file it is, its source and its content. A manifest is written when a measured data set is located
(`fetch_dataset`): it is the audited list of the raw files with their digests.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.provenance.digests import RECORD, digest
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.redaction import redact, restore
from boldscribe.machinery.provenance.verified import verified_files

LOCK = ROOT / "data" / "versions.csv"
COLUMNS = ["id", "version", "path", "url", "bytes", "sha256", "licence", "gated"]


@dataclass(frozen=True)
class Asset:
    """A row of the lock.

    Attributes:
        id, version: its identity.
        path: its location, as records name it (`naming`).
        url: its source.
        bytes, sha256: size and digest of its content.
        licence: SPDX identifier, or the name of a licence that has none.
        gated: whether access requires registration.
    """

    id: str
    version: str
    path: str
    url: str
    bytes: int
    sha256: str
    licence: str
    gated: bool


@cache
def asset_lock(path: Path = LOCK) -> dict[str, Asset]:
    """Return the assets by their path in records.

    Raises:
        UserError: the lock or a column is missing, a value is invalid, or an asset or path is listed twice.
    """
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        raise UserError(str(path), "the asset lock does not exist; restore it from the repository") from None
    assets: dict[str, Asset] = {}
    for number, row in enumerate(rows, 2):
        if list(row) != COLUMNS:
            raise UserError(str(path), f"columns: found {', '.join(map(str, row))}; expected {', '.join(COLUMNS)}")
        if not row["bytes"].isdigit() or len(row["sha256"]) != 64 or row["gated"] not in ("yes", "no"):
            raise UserError(
                str(path),
                f"line {number}: found bytes {row['bytes']!r}, sha256 {row['sha256']!r}, gated {row['gated']!r}; expected a number, 64 "
                "hexadecimal digits, and yes or no",
            )
        asset = Asset(**{**row, "bytes": int(row["bytes"]), "gated": row["gated"] == "yes"})  # type: ignore[arg-type]
        if asset.path in assets or asset.id in {a.id for a in assets.values()}:
            raise UserError(str(path), f"line {number}: {asset.id} is listed twice; remove one of the rows")
        assets[asset.path] = asset
    return assets


def locked_asset(path: Path, sha256: str) -> Asset:
    """Return the asset of the lock that a file is.

    Raises:
        UserError: the lock does not list the file, or lists other content.
    """
    name = name_of(path, ROOT / "results")
    if (asset := asset_lock().get(name)) is None:
        raise UserError(
            str(path),
            "found neither in the asset lock nor in a manifest of raw data, so it may not be used in a run; check it, then add it to "
            f"data/{LOCK.name} with path {name} and sha256 {sha256}",
        )
    if asset.sha256 != sha256:
        raise UserError(str(path), f"sha256: found {sha256}, expected {asset.sha256} ({asset.id} in {LOCK.name}); fetch it again")
    return asset


def check_locked_version(files: Iterable[Path], version: str) -> None:
    """Check that the lock, if it lists these files, gives them this version.

    Raises:
        UserError: it gives a file another version.
    """
    for file in files:
        asset = asset_lock().get(name_of(file, ROOT / "results"))
        if asset is not None and asset.version != version:
            raise UserError(str(LOCK), f"{asset.id}: version: found {asset.version}, expected {version} as configured; correct one of them")


def manifest(*folders: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Return the manifest of a data set: absolute folder or single file (without home and user) → path, digest and state of its files.

    Files that were verified when they were fetched, and are unchanged since, are not read again.
    """
    return {redact(str(Path(folder).absolute())): digest(folder, verified_files(folder))["files"] for folder in folders}


def manifest_of(path: Path, results: Path) -> Path | None:
    """Return the file with the manifest that covers a raw file or folder; None if there is none."""
    for file in sorted((results / "fetched").glob("[!.]*.json")):  # a file with a leading dot is still being written
        if file.name.endswith(RECORD):
            continue
        if any(path.absolute().is_relative_to(restore(folder)) for folder in json.loads(file.read_text())["manifest"]):
            return file
    return None
