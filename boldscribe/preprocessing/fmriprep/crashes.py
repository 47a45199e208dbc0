"""Summaries of fMRIPrep's crash files: the failed node and its message."""

from __future__ import annotations

from pathlib import Path


def crash_summary(folder: Path) -> list[str]:
    """Return one line per crash file below a folder, oldest first: the node, its last message, and the path.

    Text files are read. Older versions write pickles, which are listed but never opened: unpickling runs the code inside.
    """
    crashes = sorted((p for p in folder.rglob("crash*") if p.suffix in (".txt", ".pklz")), key=lambda p: p.stat().st_mtime)
    return [_summary(path) if path.suffix == ".txt" else f"{path}: a pickle, not opened" for path in crashes]


def _summary(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    node = next((line.partition(": ")[2] for line in lines if line.startswith("Node: ")), "an unnamed node")
    # a failed program reports why on stderr, which nipype's traceback quotes
    words = [_last_line(_block(lines, "Stderr:")), _last_line(lines)]
    return f"{node}: {'; '.join(dict.fromkeys(filter(None, words))) or 'no message'} ({path})"


def _block(lines: list[str], title: str) -> list[str]:
    """Return the indented lines below the last line that equals `title`."""
    starts = [i for i, line in enumerate(lines) if line.strip() == title]
    block: list[str] = []
    for line in lines[starts[-1] + 1 :] if starts else []:
        if line.strip() and not line[0].isspace():
            break
        block.append(line)
    return block


def _last_line(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
