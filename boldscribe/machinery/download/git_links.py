"""Links in the tree of a git repository that has not been checked out."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from contextlib import suppress

MOST_LINKS = 40  # followed in a row, as in Linux


class BrokenLink(Exception):
    """A link that leads to no file of the tree; says why."""


def follow_links(links: Mapping[str, str], files: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Follow links to files and folders of the same tree.

    Args:
        links: target by path of the link.
        files: paths of the other files.

    Returns:
        path of the file by path under which links show it, also below links to folders; and by link why it leads to no file.
    """
    found: dict[str, str] = {}
    broken: dict[str, str] = {}
    files = set(files)
    for link in links:
        try:
            end = _resolved(link, links)
            if end in files:
                found[link] = end
            else:
                found |= _below(link, end, links, files)
        except BrokenLink as error:
            broken[link] = f"a link to {links[link]}, {error}"
    return found, broken


def _below(link: str, folder: str, links: Mapping[str, str], files: set[str]) -> dict[str, str]:
    """Return the files below a link to a folder."""
    inside = f"{folder}/"
    if folder == "." or link.startswith(inside):
        raise BrokenLink("a folder that contains the link")
    ends = {path: path for path in files if path.startswith(inside)}
    for path in (path for path in links if path.startswith(inside)):
        with suppress(BrokenLink):  # told at its own path
            ends[path] = _resolved(path, links)
    found = {posixpath.join(link, path.removeprefix(inside)): end for path, end in ends.items() if end in files}
    if not found:
        raise BrokenLink("which is not in the tree")
    return found


def _resolved(path: str, links: Mapping[str, str]) -> str:
    """Return the path without links.

    Raises:
        BrokenLink: it leads out of the tree, or in circles.
    """
    for _ in range(MOST_LINKS):
        parts = path.split("/")
        via = next((head for i in range(1, len(parts) + 1) if (head := "/".join(parts[:i])) in links), None)
        if via is None:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(via), links[via], path.removeprefix(via).lstrip("/")))
        if path.startswith(("/", "../")) or path == "..":
            raise BrokenLink("which leads out of the tree")
    raise BrokenLink("which leads in circles")
