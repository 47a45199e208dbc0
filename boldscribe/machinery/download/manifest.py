"""Manifest of a data set: path, size, digest and store version of each file, in a compact parquet file.

The parquet metadata state data set, version and licence, and where the files come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, atomic

SOURCE = b"boldscribe.source"
PARTS = ("raw", "stimuli", "derivatives")
SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)")
# files of git and datalad in a data set's root, which no pipeline reads
NOT_DATA = (".git", ".datalad", ".gitattributes", ".gitmodules", ".github")


@dataclass(frozen=True)
class Entry:
    """One file of a manifest.

    Attributes:
        path: relative to the data set's root, with `/`.
        size: bytes.
        digest: SHA-256 (32 bytes) or, if the data set has no other, MD5 (16 bytes).
        version_id: version of the object in an S3 store; None if no version is known to have this content.
        in_git: whether the content is in the git repository itself instead of git-annex.
        stored_at: path in the repository and the store, if it differs: that of the file to which a link leads.
    """

    path: str
    size: int
    digest: bytes
    version_id: str | None = None
    in_git: bool = False
    stored_at: str | None = None

    @property
    def algorithm(self) -> str:
        """Name of the digest in `hashlib`."""
        return "sha256" if len(self.digest) == 32 else "md5"

    @property
    def part(self) -> str:
        """`raw`, `stimuli` or `derivatives`, by which files are selected."""
        first = PurePosixPath(self.path).parts[0]
        return first if first in PARTS else "raw"

    @property
    def subject(self) -> str | None:
        """Label of the file's subject; None for files shared by all."""
        labels = [m[1] for part in PurePosixPath(self.path).parts[:-1] if (m := SUBJECT.fullmatch(part))]
        return labels[0] if labels else None


@dataclass(frozen=True)
class Manifest:
    """Files of a data set, sorted by path.

    Attributes:
        source: accession, version, commit, annex_commit, licence, name, base_url, git_url, git_files_url, made; all
            text, empty if unknown.
        files: all files.
        left_out: of a manifest that was just built, why files of the tree are not listed; not stored.
    """

    source: dict[str, str]
    files: tuple[Entry, ...]
    left_out: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def size(self) -> int:
        """Total size of all files (bytes)."""
        return sum(entry.size for entry in self.files)

    def url(self, entry: Entry, base_url: str | None = None) -> str:
        """Return the URL of a file.

        It points to the version in the store that is known to have the content. A file in git without such a version comes from the
        git repository at the commit, since the store may have changed. `base_url` names a mirror of the same tree for all files.
        """
        if base_url is None and entry.in_git and entry.version_id is None and self.source["git_files_url"]:
            return f"{self.source['git_files_url']}/{quote(entry.stored_at or entry.path)}"
        base = (base_url or self.source["base_url"]).rstrip("/")
        version = f"?versionId={quote(entry.version_id, safe='')}" if entry.version_id else ""
        return f"{base}/{quote(entry.stored_at or entry.path)}{version}"

    def selected(self, parts: Iterable[str] = ("raw", "stimuli"), subjects: Sequence[str] | None = None) -> list[Entry]:
        """Select files by part and subject, including files of no subject.

        Args:
            parts: any of `raw`, `stimuli`, `derivatives`.
            subjects: labels without `sub-`; None for all.

        Raises:
            UserError: a subject is not in the data set.
        """
        if subjects is not None and (unknown := sorted(set(subjects) - (known := {e.subject for e in self.files if e.subject}))):
            raise UserError(
                "subjects", f"found {', '.join(unknown)}, expected some of {', '.join(sorted(known)) or 'none'}; correct the list"
            )
        parts = set(parts)
        return [
            entry
            for entry in self.files
            if entry.part in parts
            and PurePosixPath(entry.path).parts[0] not in NOT_DATA
            and (subjects is None or entry.subject is None or entry.subject in subjects)
        ]


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest as parquet; equal content gives equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "path": pa.array([e.path for e in manifest.files], pa.string()),
        "bytes": pa.array([e.size for e in manifest.files], pa.int64()),
        "digest": pa.array([e.digest for e in manifest.files], pa.binary()),
        "version_id": pa.array([e.version_id for e in manifest.files], pa.string()),
        "in_git": pa.array([e.in_git for e in manifest.files], pa.bool_()),
    }
    if any(e.stored_at for e in manifest.files):
        columns["stored_at"] = pa.array([e.stored_at for e in manifest.files], pa.string())
    table = pa.table(columns).replace_schema_metadata({SOURCE: json.dumps(manifest.source, sort_keys=True)})
    with atomic(path) as part:
        # sorted paths share prefixes; digests and versions are random
        pq.write_table(
            table,
            part,
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
            column_encoding={
                "path": "DELTA_BYTE_ARRAY",
                "bytes": "DELTA_BINARY_PACKED",
                "digest": "DELTA_LENGTH_BYTE_ARRAY",
                "version_id": "DELTA_LENGTH_BYTE_ARRAY",
            },
        )


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        UserError: the file is missing or not a manifest, or a path in it points outside the data set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        names = ["path", "bytes", "digest", "version_id", "in_git", *(["stored_at"] if "stored_at" in table.column_names else [])]
        table = table.select(names)
        source = json.loads((table.schema.metadata or {})[SOURCE])
    except FileNotFoundError:
        raise UserError(str(path), "the manifest does not exist; make it with `boldscribe fetch manifest` (docs/fetching.md)") from None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(
            str(path), f"found no manifest of a data set ({error}), expected one made by `boldscribe fetch manifest`; restore it"
        ) from None
    files = tuple(Entry(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True))
    for entry in files:
        check_path(entry.path, str(path))
        check_path(entry.stored_at or entry.path, str(path))
        if len(entry.digest) not in (16, 32) or entry.size < 0:
            raise UserError(
                str(path), f"{entry.path}: found a digest of {len(entry.digest)} bytes, expected 32 or 16; make the manifest again"
            )
    return Manifest(source, files)


def manifest_path(configured: str) -> Path:
    """Resolve a manifest's path: as given, or relative to the checkout, which ships some in `data/manifests`."""
    return path if (path := Path(configured)).exists() or path.is_absolute() else ROOT / configured


def check_path(path: str, origin: str) -> None:
    """Check that a path of a manifest or an archive stays inside its folder.

    Raises:
        UserError: it is empty or absolute, goes up, or contains a character that is invalid in file names.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise UserError(origin, f"path: found {path!r}, expected one inside the folder; do not use the file that contains it")
