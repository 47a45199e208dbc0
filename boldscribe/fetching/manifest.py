"""The list of a data set's files: path, size, digest and version in the store, as a compact parquet file.

The file's own metadata say which data set it is, of which version and licence, and where the files come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from boldscribe.errors import UserError
from boldscribe.files import atomic
from boldscribe.provenance.naming import ROOT

SOURCE = b"boldscribe.source"
PARTS = ("raw", "stimuli", "derivatives")
SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)")
# what a data set's root holds for git and datalad, and no pipeline reads
NOT_DATA = (".git", ".datalad", ".gitattributes", ".gitmodules", ".github")


@dataclass(frozen=True)
class Entry:
    """A file of the list.

    Attributes:
        path: from the data set's root, with `/`.
        size: bytes.
        digest: SHA-256 (32 bytes) or, where the data set has no other, MD5 (16 bytes).
        version_id: version of the object in an S3 store; None where none is known with this content.
        in_git: whether the content lies in the git repository itself, and not in git-annex.
    """

    path: str
    size: int
    digest: bytes
    version_id: str | None = None
    in_git: bool = False

    @property
    def algorithm(self) -> str:
        """Name of the digest, as `hashlib` has it."""
        return "sha256" if len(self.digest) == 32 else "md5"

    @property
    def part(self) -> str:
        """`raw`, `stimuli` or `derivatives`: what a selection goes by."""
        first = PurePosixPath(self.path).parts[0]
        return first if first in PARTS else "raw"

    @property
    def subject(self) -> str | None:
        """Label of the subject that the file is of; None for files of all."""
        labels = [m[1] for part in PurePosixPath(self.path).parts[:-1] if (m := SUBJECT.fullmatch(part))]
        return labels[0] if labels else None


@dataclass(frozen=True)
class Manifest:
    """The files of a data set, in the order of their paths.

    Attributes:
        source: accession, version, commit, annex_commit, licence, name, base_url, git_url, git_files_url, made; text
            each, empty where unknown.
        files: all of them.
    """

    source: dict[str, str]
    files: tuple[Entry, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def url(self, entry: Entry, base_url: str | None = None) -> str:
        """Where a file is fetched from.

        From the store, in the version that is known to have its content; what lies in git and has none, from the git repository at
        the commit, since the store may have moved on. `base_url` names a place that holds the same tree, for all files.
        """
        if base_url is None and entry.in_git and entry.version_id is None and self.source["git_files_url"]:
            return f"{self.source['git_files_url']}/{quote(entry.path)}"
        base = (base_url or self.source["base_url"]).rstrip("/")
        version = f"?versionId={quote(entry.version_id, safe='')}" if entry.version_id else ""
        return f"{base}/{quote(entry.path)}{version}"

    def selected(self, parts: Iterable[str] = ("raw", "stimuli"), subjects: Sequence[str] | None = None) -> list[Entry]:
        """Files of some parts, of some subjects and those that belong to none.

        Args:
            parts: of `raw`, `stimuli`, `derivatives`.
            subjects: labels without `sub-`; None for all.

        Raises:
            UserError: a subject that the data set has not.
        """
        if subjects is not None and (unknown := sorted(set(subjects) - (known := {e.subject for e in self.files if e.subject}))):
            raise UserError("subjects", f"found {', '.join(unknown)}, expected of {', '.join(sorted(known)) or 'none'}; correct the list")
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
    table = pa.table(columns).replace_schema_metadata({SOURCE: json.dumps(manifest.source, sort_keys=True)})
    with atomic(path) as part:
        # sorted paths share their beginnings; digests and versions are random
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
        UserError: no such file, not a manifest, or a path in it that leads out of the data set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["path", "bytes", "digest", "version_id", "in_git"])
        source = json.loads((table.schema.metadata or {})[SOURCE])
    except FileNotFoundError:
        raise UserError(str(path), "the manifest does not exist; make it with `boldscribe fetch manifest` (docs/fetching.md)") from None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(
            str(path), f"found no manifest of a data set ({error}), expected one of `boldscribe fetch manifest`; restore it"
        ) from None
    files = tuple(Entry(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True))
    for entry in files:
        check_path(entry.path, str(path))
        if len(entry.digest) not in (16, 32) or entry.size < 0:
            raise UserError(
                str(path), f"{entry.path}: found a digest of {len(entry.digest)} bytes, expected 32 or 16; make the manifest anew"
            )
    return Manifest(source, files)


def manifest_path(configured: str) -> Path:
    """Where a manifest lies: as it is named, or in the checkout, whose `data/manifests` holds those that come with it."""
    return path if (path := Path(configured)).exists() or path.is_absolute() else ROOT / configured


def check_path(path: str, origin: str) -> None:
    """Make sure that a path of a list or an archive stays in the folder that it is laid down in.

    Raises:
        UserError: it is absolute, goes up, or has a character that no file name has.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise UserError(origin, f"path: found {path!r}, expected one inside the folder; do not use what it comes from")
