"""Download of fMRIPrep's templates to its TemplateFlow folder.

Compute nodes have no network, and TemplateFlow's own package creates empty files instead of the templates.
"""

from __future__ import annotations

import csv
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.download.http import Fetcher
from boldscribe.machinery.download.manifest import Entry
from boldscribe.machinery.download.transfer import transfer
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT

TABLE = ROOT / "data" / "templates.csv"
COLUMNS = ["path", "bytes", "digest", "url", "licence"]


def templates(table: Path = TABLE) -> dict[Entry, tuple[str, str]]:
    """Read the table of templates: each file with its URL and licence.

    Raises:
        UserError: the table is missing, or a column or value is invalid.
    """
    try:
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        raise UserError(str(table), "the table of templates does not exist; restore it from the repository") from None
    found = {}
    for number, row in enumerate(rows, 2):
        try:
            if list(row) != COLUMNS:
                raise ValueError
            digest = bytes.fromhex(row["digest"])
            if len(digest) not in (16, 32):
                raise ValueError
            found[Entry(row["path"], int(row["bytes"]), digest)] = (row["url"], row["licence"])
        except (ValueError, TypeError):
            raise UserError(
                str(table),
                f"line {number}: found {dict(row)}, expected {', '.join(COLUMNS)}, with a number and the digits of a SHA-256 or MD5",
            ) from None
    return found


def templateflow_home(config: Config, table: Path = TABLE) -> Path:
    """Return the folder of the templates.

    Raises:
        UserError: none is configured, or the table has no files of the configured space.
    """
    settings = config.preprocessing
    if settings.templateflow_home is None:
        raise UserError(
            "preprocessing.templateflow_home", "found null, which leaves the templates to the image; name a folder to fetch them to"
        )
    spaces = sorted({entry.path.partition("/")[0].removeprefix("tpl-") for entry in templates(table)})
    if settings.space not in spaces:
        raise UserError(
            "preprocessing.space",
            f"found {settings.space}, expected one of {', '.join(spaces)}, which data/{table.name} lists; change it, or enter its files",
        )
    return Path(settings.templateflow_home)


def fetch_templates(
    folder: Path, *, base_url: str | None = None, parallel: int = 8, fetcher: Fetcher | None = None, table: Path = TABLE
) -> None:
    """Fetch the table's files that are missing or empty in a TemplateFlow folder.

    Args:
        folder: TEMPLATEFLOW_HOME.
        base_url: mirror of the same tree.
        parallel: number of parallel downloads.
        fetcher: downloader; a new one by default.
        table: table of the files.

    Raises:
        UserError: as in `transfer`.
    """
    files = templates(table)
    transfer(
        list(files),
        folder,
        lambda entry: f"{base_url.rstrip('/')}/{entry.path}" if base_url else files[entry][0],
        parallel=parallel,
        fetcher=fetcher,
    )
