"""Files of the stimuli: their names in events and manifests, which may be spelled differently, and must stay inside their folder."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

LONGEST_NAME = 255  # bytes, in common file systems
ANNEXED = re.compile(r"/annex/objects/")  # contents of git-annex, to which links of its own lead


def clean_path(name: str) -> str | None:
    """Normalise a stimulus's path below the folder of the videos: `/`, no `.` and `..`; None if it leads out or names no file."""
    path = posixpath.normpath(name.replace("\\", "/"))
    outside = path == ".." or path.startswith(("../", "/")) or re.match(r"[A-Za-z]:", path)
    no_file = path == "." or any(len(part.encode()) > LONGEST_NAME for part in path.split("/"))
    return None if outside or no_file else path


def other_spellings(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Find the files of names that do not exist as written, but in one other spelling.

    Spellings may differ in case, in percent encoding, in Unicode composition, and by a leading `stimuli/`.

    Args:
        folder: folder of the videos.
        names: from `clean_path`.

    Returns:
        existing file by name, where exactly one fits.
    """
    absent = [name for name in dict.fromkeys(names) if not os.path.lexists(folder / name)]
    if not absent:
        return {}
    there: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            name = path.relative_to(folder).as_posix()
            there.setdefault(_spelling(name), []).append(name)
    return {name: found[0] for name in absent if len(found := there.get(_spelling(name), [])) == 1}


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold().removeprefix("stimuli/")


def links_that_lead_out(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the files that are links to somewhere outside the folder, with their targets; git-annex's own links are none."""
    root = os.path.realpath(folder)
    targets = {name: os.path.realpath(folder / name) for name in names}
    return {name: to for name, to in targets.items() if not to.startswith(f"{root}{os.sep}") and not ANNEXED.search(to)}
