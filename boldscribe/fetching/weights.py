"""Download of model weights from one commit of a hub repository, each file checked against the commit's digest."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.machinery.download.manifest import check_path
from boldscribe.machinery.download.transfer import alone_in, gigabytes
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.provenance.asset_lock import COLUMNS as LOCK_COLUMNS
from boldscribe.machinery.provenance.asset_lock import asset_lock
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.verified import digests_of
from boldscribe.models.hub_folder import stated_revisions

TABLE = ROOT / "data" / "models.csv"
COLUMNS = ["asset", "key", "repo", "revision", "files", "licence", "gated"]
REVISION = re.compile(r"[0-9a-f]{40}")
PICKLED = (".pth", ".pt", ".bin", ".pkl", ".ckpt")
SOURCES = Path("models") / "sources"
# of a video-text model; the configuration names its repository and commit
CAPTIONER_FILES = ("*.json", "*.txt", "*.safetensors", "*.model", "*.jinja")


@dataclass(frozen=True)
class Weights:
    """One row of the table of models.

    Attributes:
        asset: name.
        key: configuration key that names the folder; nothing is fetched if its value is 'embedded'.
        repo: OWNER/NAME on the hub.
        revision: commit, 40 hexadecimal digits; empty if not entered yet.
        files: patterns of the needed files.
        licence: SPDX identifier, or the name of a licence that has none.
        gated: whether access requires registration.
        folder: destination; pickled files, which `boldscribe convert` reads, do not go to the key's folder.
    """

    asset: str
    key: str
    repo: str
    revision: str
    files: tuple[str, ...]
    licence: str
    gated: bool
    folder: Path

    @property
    def pickled(self) -> bool:
        """True if pickled files are among them, which no step of the pipeline opens."""
        return any(pattern.endswith(PICKLED) for pattern in self.files)


def configured_weights(config: Config, table: Path = TABLE) -> list[Weights]:
    """Return the rows that the configuration needs, and its captioner; embedded models are excluded.

    Raises:
        UserError: the table is missing, or a column or value is invalid.
    """
    rows = []
    values = config.model_dump()
    for number, row in enumerate(_rows(table), 2):
        if list(row) != COLUMNS or None in row.values():
            raise UserError(str(table), f"line {number}: columns: found {', '.join(map(str, row))}; expected {', '.join(COLUMNS)}")
        if (row["revision"] and not REVISION.fullmatch(row["revision"])) or row["gated"] not in ("yes", "no"):
            raise UserError(
                str(table),
                f"line {number}: found revision {row['revision']!r}, gated {row['gated']!r}; expected 40 hexadecimal digits or nothing, "
                "and yes or no",
            )
        section, _, name = row["key"].partition(".")
        if (folder := str(values[section][name])) == "embedded":
            continue
        details = {**row, "files": tuple(row["files"].split()), "gated": row["gated"] == "yes", "folder": Path(folder)}
        weights = Weights(**details)  # type: ignore[arg-type]
        rows.append(replace(weights, folder=SOURCES / weights.repo.rpartition("/")[2]) if weights.pickled else weights)
    if (captioner := config.captioner).kind == "video_text":
        named = (captioner.hub_name or "", captioner.revision or "", CAPTIONER_FILES, "that of its repository", False)
        rows.append(Weights("captioner", "captioner.model", *named, folder=Path(captioner.model or "")))
    return rows


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError:
        raise UserError(str(table), "the table of models does not exist; restore it from the repository") from None


def fetch_weights(
    weights: Weights, *, endpoint: str | None = None, parallel: int = 8, dry_run: bool = False, say: Callable[[str], None]
) -> None:
    """Fetch a repository's files at a commit into a folder, which appears when all are complete and verified.

    Files that arrived before a failure are kept next to the folder and not fetched again.

    Args:
        weights: weights to fetch.
        endpoint: address of the hub; by default that of its client.
        parallel: number of parallel downloads.
        dry_run: only print what would be fetched.
        say: prints licence, size, and rows to enter in the lock.

    Raises:
        UserError: the commit is unknown; the folder holds another one; the hub does not have the repository, commit or files, requires
            a login, or cannot be reached; the disk is too full; a file has another digest.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import filter_repo_objects

    say(f"{weights.asset}: {weights.repo} {weights.revision or 'without a commit'}; licence: {weights.licence}")
    if not weights.revision:
        raise UserError(
            f"data/{TABLE.name}",
            f"revision of {weights.repo}: found none, expected a commit, since a branch may move; look it up on the hub, read the licence, "
            f"pass it with --asset {weights.asset} --revision COMMIT, and enter it in the table",
        )
    if weights.folder.exists():
        if (stated := stated_revisions(weights.folder)) == {weights.revision}:
            say(f"  already in {weights.folder}")
            return
        raise UserError(
            str(weights.folder),
            f"found {'commit ' + ', '.join(sorted(stated)) if stated else 'files of an unknown commit'}, expected {weights.revision}; move "
            "the folder away to fetch it again",
        )
    with _hub_errors(weights):
        tree = [
            f
            for f in HfApi(endpoint=endpoint).list_repo_tree(weights.repo, recursive=True, revision=weights.revision)
            if hasattr(f, "size")
        ]
        wanted = {f.path: f for f in filter_repo_objects(tree, allow_patterns=list(weights.files), key=lambda f: str(f.path))}
    if not wanted:
        raise UserError(f"data/{TABLE.name}", f"files of {weights.asset}: found none in {weights.repo}, expected {' '.join(weights.files)}")
    for path in wanted:
        check_path(path, weights.repo)
    size = sum(f.size for f in wanted.values())
    say(f"  {len(wanted)} files, {gigabytes(size)}, to {weights.folder}")
    if dry_run:
        return
    part = weights.folder.with_name(f".{weights.folder.name}.{weights.revision[:12]}.part")
    weights.folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(weights.folder.parent).free) < size:
        raise UserError(str(weights.folder.parent), f"found {gigabytes(free)} free, expected {gigabytes(size)}; make room")
    with alone_in(weights.folder.absolute()):
        with _hub_errors(weights):
            snapshot_download(
                weights.repo,
                revision=weights.revision,
                local_dir=part,
                allow_patterns=sorted(wanted),
                max_workers=parallel,
                endpoint=endpoint,
            )
        for path, listed in wanted.items():
            _check(part / path, listed, weights)
        part.rename(weights.folder)
    _say_lock(weights, sorted(wanted), say)


def _check(file: Path, listed: Any, weights: Weights) -> None:
    """Check a file against the commit: a large one by SHA-256, a small one by the name of its blob."""
    if listed.lfs:
        found, expected = digests_of(file)[0], listed.lfs.sha256
    else:
        content = file.read_bytes()
        found = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
        expected = listed.blob_id
    if found != expected:
        file.unlink()
        raise UserError(
            f"{weights.repo}: {listed.path}", f"digest: found {found}, expected {expected}; the file was removed: fetch it again"
        )


def _say_lock(weights: Weights, paths: Sequence[str], say: Callable[[str], None]) -> None:
    """Print the rows that are missing in the lock of assets, or the next step for files that must be converted."""
    if weights.pickled:
        say(f"  next step: convert {weights.folder} with `boldscribe convert` (docs/weights.md)")
        return
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for path in paths:
        file = weights.folder / path
        sha256 = digests_of(file)[0]
        name = name_of(file, ROOT / "results")
        if (known := asset_lock().get(name)) is None or known.sha256 != sha256:
            url = f"pkg:huggingface/{weights.repo}@{weights.revision}#{path}"
            gated = "yes" if weights.gated else "no"
            licence = weights.licence
            writer.writerow([f"{weights.repo}/{path}", weights.revision[:12], name, url, file.stat().st_size, sha256, licence, gated])
    if rows.getvalue():
        say(f"  rows to enter in data/versions.csv, so that steps accept the files ({','.join(LOCK_COLUMNS)}):")
        say(rows.getvalue().rstrip())


@contextmanager
def _hub_errors(weights: Weights) -> Iterator[None]:
    """Translate errors of the hub's client into messages with a remedy."""
    from huggingface_hub import errors

    place = f"{weights.repo}@{weights.revision[:12]}"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            place, "found a gated repository, expected access; accept its licence on the hub, then run `hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(
            place, f"found no such repository or commit on the hub ({type(error).__name__}), expected it; correct the row or the login"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise UserError(
            "HF_HUB_OFFLINE",
            "found the hub switched off by this variable or BOLDSCRIBE_OFFLINE, expected access; unset it for this command",
        ) from None
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            place,
            f"found {str(error).splitlines()[0] if str(error) else type(error).__name__}, expected its files; run this where there is a "
            "network: partial downloads are kept",
        ) from None
