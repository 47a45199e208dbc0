"""What was made from the same content by the same code is not made again: arrays and folders kept by a digest of what they were made from.

An entry is the array or folder, and a JSON header with its digest, which is written last: an entry without it does not count. An
array may be the same file as the output that it was kept from (a hard link), which costs no room. What is taken from the cache is a
file of its own, since Snakemake sets the time of each output when its job ends, and steps that have read a file which shares that
time would be run again.
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.files import atomic, atomic_folder, header_path, json_digest, sha256_of, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContentCache:
    """A folder of arrays by what they were made from; it can be emptied at any time.

    Attributes:
        folder: of the entries of one kind.
        maker: digest of the code and packages that make them.
    """

    folder: Path
    maker: str

    def entry(self, content: Any, suffix: str = ".npy") -> Path:
        """Where the array lies that is made from `content` (JSON: digests of the materials, and settings); a folder has no suffix."""
        return self.folder / f"{json_digest([self.maker, content])}{suffix}"

    def take(self, content: Any, target: Path) -> dict[str, Any] | None:
        """Copy the array made from `content` to `target`, if it is there and as it was; a damaged entry is removed.

        Returns:
            the header that it was kept with, or None.
        """
        entry = self.entry(content)
        try:
            kept = json.loads(header_path(entry).read_text())
            shutil.copyfile(entry, target)
        except FileNotFoundError:
            return None
        except ValueError:
            kept = {}
        except OSError as error:
            logger.warning("cache: %s cannot be read (%s)", entry, error)
            return None
        if kept.get("array_sha256") == sha256_of(target) and kept.get("header_sha256") == json_digest(kept.get("header")):
            logger.info("taken from the cache: %s", entry)
            return dict(kept["header"])
        logger.warning("cache: %s: found another content than was written; it is removed, and made anew", entry)
        with suppress(OSError):
            header_path(entry).unlink(missing_ok=True)
            entry.unlink(missing_ok=True)
        return None

    def keep(self, content: Any, array: Path, header: dict[str, Any]) -> None:
        """Keep an array made from `content`; what another process keeps at the same time is the same.

        A cache that cannot be written costs the time to make the array again, and nothing else.
        """
        entry = self.entry(content)
        try:
            with atomic(entry) as part:
                try:
                    part.hardlink_to(array)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(array, part)
            write_json(header_path(entry), {"header": header, "array_sha256": sha256_of(array), "header_sha256": json_digest(header)})
        except OSError as error:
            logger.warning("cache: %s cannot be written (%s)", entry, error)

    def take_folder(self, content: Any, target: Path) -> bool:
        """Fill the empty folder `target` with that made from `content`, if it is there and as it was; else leave it empty."""
        entry = self.entry(content, "")
        if not header_path(entry).exists():
            return False
        try:
            if _digests(entry) == json.loads(header_path(entry).read_text()):
                shutil.copytree(entry, target, dirs_exist_ok=True)
                logger.info("taken from the cache: %s", entry)
                return True
            logger.warning("cache: %s: found another content than was written; it is made anew", entry)
        except (OSError, ValueError) as error:
            logger.warning("cache: %s cannot be read (%s)", entry, error)
            shutil.rmtree(target)
            target.mkdir()
        return False

    def keep_folder(self, content: Any, folder: Path) -> None:
        """Keep a folder made from `content`; a cache that cannot be written costs the time to make it again, and nothing else."""
        entry = self.entry(content, "")
        try:
            with atomic_folder(entry) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True)
            write_json(header_path(entry), _digests(folder))
        except OSError as error:
            logger.warning("cache: %s cannot be written (%s)", entry, error)


def _digests(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}
