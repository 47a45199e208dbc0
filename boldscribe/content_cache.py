"""What was made from the same content by the same code is not made again: arrays kept by a digest of what they were made from.

An entry is the array, and a JSON header with the array's digest, which is written last: an entry without it does not count. The
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

from boldscribe.files import atomic, header_path, json_digest, sha256_of, write_json

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

    def entry(self, content: Any) -> Path:
        """Where the array lies that is made from `content` (JSON: digests of the materials, and settings)."""
        return self.folder / f"{json_digest([self.maker, content])}.npy"

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
