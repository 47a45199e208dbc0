"""What may enter a run from outside: assets of the lock `data/versions.csv`, and files of a raw data set's manifest.

A lock's row says which file it is, where it comes from, and its bytes. A manifest is written when a measured data set is located
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

from boldscribe.errors import UserError
from boldscribe.fetching.verified import verified_files
from boldscribe.provenance.digests import RECORD, digest
from boldscribe.provenance.naming import ROOT, name_of
from boldscribe.provenance.redaction import redact, restore

LOCK = ROOT / "data" / "versions.csv"
COLUMNS = ["id", "version", "path", "url", "bytes", "sha256", "licence", "gated"]


@dataclass(frozen=True)
class Asset:
    """A row of the lock.

    Attributes:
        id, version: what it is.
        path: where it lies, as records name it (`naming`).
        url: where it comes from.
        bytes, sha256: its content.
        licence: SPDX identifier, or the name of a licence that has none.
        gated: whether one must register to get it.
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
    """The assets by the path that records name them by.

    Raises:
        UserError: a missing lock, a column that is missing, a value that is none, an asset or path that stands twice.
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
            raise UserError(str(path), f"line {number}: {asset.id} stands twice; remove one of the rows")
        assets[asset.path] = asset
    return assets


def locked_asset(path: Path, sha256: str) -> Asset:
    """The asset that a file is.

    Raises:
        UserError: the lock does not name the file, or names other content.
    """
    name = name_of(path, ROOT / "results")
    if (asset := asset_lock().get(name)) is None:
        raise UserError(
            str(path),
            "found neither in the asset lock nor in a manifest of raw data, so it may not enter a run; check it, then add it to "
            f"data/{LOCK.name} with path {name} and sha256 {sha256}",
        )
    if asset.sha256 != sha256:
        raise UserError(str(path), f"sha256: found {sha256}, expected {asset.sha256} ({asset.id} in {LOCK.name}); fetch it again")
    return asset


def check_locked_version(files: Iterable[Path], version: str) -> None:
    """Make sure that the lock, where it names these files, says that they are of a version.

    Raises:
        UserError: it says that one is of another version.
    """
    for file in files:
        asset = asset_lock().get(name_of(file, ROOT / "results"))
        if asset is not None and asset.version != version:
            raise UserError(str(LOCK), f"{asset.id}: version: found {asset.version}, configured is {version}; correct one of them")


def manifest(*folders: str | Path) -> dict[str, list[dict[str, Any]]]:
    """The manifest of a data set: absolute folder, less home and user → path, digest and state of each of its files.

    Files that were verified when they were fetched, and are as they were then, are not read again.
    """
    return {redact(str(Path(folder).absolute())): digest(folder, verified_files(folder))["files"] for folder in folders}


def manifest_of(path: Path, results: Path) -> Path | None:
    """The file that holds the manifest which a raw file or folder is under; None if there is none."""
    for file in sorted((results / "fetched").glob("[!.]*.json")):  # a name with a dot at its start is being written
        if file.name.endswith(RECORD):
            continue
        if any(path.absolute().is_relative_to(restore(folder)) for folder in json.loads(file.read_text())["manifest"]):
            return file
    return None
