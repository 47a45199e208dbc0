"""Cache of arrays and folders, keyed by a digest of the content and code that they were made from.

An entry is the array or folder, and a JSON header with its digest. The header is written last: an entry without it does not count. An
array may be a hard link to the output that it was kept from, which takes no space. Entries are copied out of the cache, not linked:
Snakemake sets the time of each output when its job ends, and would rerun steps that have read a file which shares that time.
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import atomic, atomic_folder, header_path, json_digest, sha256_of, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContentCache:
    """A folder of arrays, keyed by what they were made from; it can be emptied at any time.

    Attributes:
        folder: folder of the entries of one kind.
        maker: digest of the code and packages that make them.
    """

    folder: Path
    maker: str

    def entry(self, content: Any, suffix: str = ".npy") -> Path:
        """Return the path of the array made from `content` (JSON: digests of the inputs, and settings); a folder has no suffix."""
        return self.folder / f"{json_digest([self.maker, content])}{suffix}"

    def take(self, content: Any, target: Path) -> dict[str, Any] | None:
        """Copy the array made from `content` to `target` if it is cached and intact; a damaged entry is removed.

        Returns:
            the header that was stored with it, or None.
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
        logger.warning("cache: %s: its content differs from what was written; it is removed and made again", entry)
        with suppress(OSError):
            header_path(entry).unlink(missing_ok=True)
            entry.unlink(missing_ok=True)
        return None

    def keep(self, content: Any, array: Path, header: dict[str, Any]) -> None:
        """Store an array made from `content`; another process may store the same one at the same time.

        If the cache cannot be written, the only cost is to make the array again.
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
        """Copy the folder made from `content` to the empty `target` if it is cached and intact; return whether it was."""
        entry = self.entry(content, "")
        if not header_path(entry).exists():
            return False
        try:
            if _digests(entry) == json.loads(header_path(entry).read_text()):
                shutil.copytree(entry, target, dirs_exist_ok=True)
                logger.info("taken from the cache: %s", entry)
                return True
            logger.warning("cache: %s: its content differs from what was written; it is made again", entry)
        except (OSError, ValueError) as error:
            logger.warning("cache: %s cannot be read (%s)", entry, error)
            shutil.rmtree(target)
            target.mkdir()
        return False

    def keep_folder(self, content: Any, folder: Path) -> None:
        """Store a folder made from `content`; if the cache cannot be written, the only cost is to make the folder again."""
        entry = self.entry(content, "")
        try:
            with atomic_folder(entry) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True)
            write_json(header_path(entry), _digests(folder))
        except OSError as error:
            logger.warning("cache: %s cannot be written (%s)", entry, error)


def _digests(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}
