"""Descriptions that a data set gives of its clips: a table or a JSON file, with one or several for each clip.

A clip is named by its stimulus, as in the stimulus manifest, or by its video, below the folder of the videos and with or without its
ending. Nothing heavy is imported at the top: `Config` asks whether a second description of each clip exists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from boldscribe.machinery.errors import UserError

# What decoded texts are scored against, as the end of the names of scores and tables: captions, or sentences that people wrote.
CAPTIONS, DESCRIPTIONS = "", "_descriptions"
NAMES = ("stimulus", "stim_file")
TEXTS = re.compile(r"(text_)?(description|caption|sentence|text)s?([_ ]?\d+)?", re.IGNORECASE)
NOTHING = {"", "n/a"}
FORMATS = (
    f"a table (.tsv, .csv) with a column {' or '.join(NAMES)} and columns such as description or sentence_1, or JSON that maps each "
    "stimulus to one or several texts"
)

Descriptions = dict[str, tuple[str, ...]]


def read_descriptions(path: str | Path) -> Descriptions:
    """Read a file of descriptions: name of the clip → its different texts, in the file's order.

    Several rows of a clip, and several columns of texts, add up. Empty cells and `n/a` are no texts; a clip without any has none.

    Raises:
        UserError: the file is missing, is neither a table nor JSON of this form, or describes no clip.
    """
    try:
        return _read(str(path), Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise UserError(str(path), f"description_file: cannot be read ({error.strerror}); correct the path") from None


@lru_cache(maxsize=8)
def _read(path: str, changed: int) -> Descriptions:
    """Read a file once for each of its versions."""
    pairs = _of_json(path) if path.lower().endswith(".json") else _of_table(path)
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        texts = found.setdefault(_plain(name), [])
        if (text := " ".join(text.split())).lower() not in NOTHING and text not in texts:
            texts.append(text)
    if not any(found.values()):
        raise UserError(path, f"found no description in it, expected {FORMATS}; complete it")
    return {name: tuple(texts) for name, texts in found.items()}


def _of_table(path: str) -> Iterable[tuple[str, str]]:
    from boldscribe.machinery.table_files import read_table  # pandas, which `Config` needs for such files only

    table = read_table(Path(path))
    named = next((name for name in NAMES if name in table), None)
    columns = [name for name in map(str, table) if TEXTS.fullmatch(name)]
    if named is None or not columns:
        raise UserError(path, f"columns: found {', '.join(map(str, table))}, expected {FORMATS}; rename or add them")
    for row in table[table[named].notna()].to_dict("records"):
        yield from ((row[named], row[column] or "") for column in columns)


def _of_json(path: str) -> Iterable[tuple[str, str]]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(path, f"not JSON ({error}); repair it") from None
    if isinstance(found, list):
        found = [(next((entry[name] for name in NAMES if name in entry), None), entry) for entry in found if isinstance(entry, dict)]
    elif isinstance(found, dict):
        found = list(found.items())
    else:
        found = []
    for name, entry in found:
        if not isinstance(name, str) or (texts := _texts(entry)) is None:
            raise UserError(path, f"{name}: found {json.dumps(entry)[:80]}, expected {FORMATS}; correct it")
        yield from ((name, text) for text in texts or [""])


def _texts(entry: Any) -> list[str] | None:
    """Return the texts of a clip's entry: a text, a list of texts, or an object that has them under such a name; None for anything else."""
    if entry is None or isinstance(entry, str):
        return [entry or ""]
    if isinstance(entry, list):
        return [text or "" for text in entry] if all(text is None or isinstance(text, str) for text in entry) else None
    if not isinstance(entry, dict):
        return None
    parts = [_texts(value) for key, value in entry.items() if TEXTS.fullmatch(key)]
    return None if not parts or None in parts else [text for part in parts for text in part or []]


def _plain(name: str) -> str:
    """Write a clip's name as the trials do: below the folder of the videos, with slashes."""
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix().removeprefix("stimuli/")


def descriptions_of(
    clips: Iterable[str], path: str | Path, manifest: str | Path | None = None, *, by_bare_name: bool = False
) -> Descriptions:
    """Look up the descriptions of clips.

    Args:
        clips: `stim_file` of each.
        path: file of the descriptions.
        manifest: the data set's stimulus manifest, by which the file may name clips by their stimulus.
        by_bare_name: whether the file names clips without folder and ending, as in data sets that number them throughout.

    Returns:
        clip → its texts; none for a clip that the file does not describe.

    Raises:
        UserError: see `read_descriptions`.
    """
    found, stimuli = read_descriptions(path), _stimuli_of(manifest) if manifest else {}
    texts: Descriptions = {}
    for clip in clips:
        if not clip:  # an event without video
            texts[clip] = ()
            continue
        video = PurePosixPath(clip)
        names = [clip, *stimuli.get(_plain(clip), []), str(video.with_suffix("")), *([video.stem] if by_bare_name else [])]
        texts[clip] = _first(names, found)
    return texts


def _first(names: Sequence[str], found: Descriptions) -> tuple[str, ...]:
    """Return the texts under the first of several names that has any."""
    return next((texts for name in names if (texts := found.get(_plain(name)))), ())


def _stimuli_of(manifest: str | Path) -> dict[str, list[str]]:
    """Return the stimuli of each video, by a stimulus manifest."""
    from boldscribe.machinery.table_files import check_columns, read_table

    table = read_table(Path(manifest))
    check_columns(Path(manifest), table, list(NAMES), "add them")
    stimuli: dict[str, list[str]] = {}
    for row in table[table["stimulus"].notna() & table["stim_file"].notna()].to_dict("records"):
        stimuli.setdefault(_plain(row["stim_file"]), []).append(row["stimulus"])
    return stimuli


def described_once(path: str | Path) -> str:
    """State how many clips of a file have one description only, so that there is no second one to compare with; empty if none has."""
    texts = [texts for texts in read_descriptions(path).values() if texts]
    once = sum(len(given) < 2 for given in texts)
    return f"{once:,} of {len(texts):,} clips have one description only" if once else ""
