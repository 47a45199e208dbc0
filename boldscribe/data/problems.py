"""Problems of a data set in words, with those of one kind told in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHOWN = 3
FOUND = re.compile(r"found (?!no\b).*?(?=[,;] expected)")
EXPECTED = re.compile(r"expected .*?(?=, of which|;|$)")
VALUE = re.compile(r"\S*/\S+|\S*\d\S*|'[^']*'|\s+")


def grouped(problems: Iterable[str]) -> list[str]:
    """Join the problems of each kind to one line: their number, the first in full, with its remedy, and where two more are.

    Problems are `FILE: FIELD: found X, expected Y; REMEDY`. Those that differ only in file, value and numbers are of one kind. A problem
    that is the only one of its kind stays as it is.
    """
    kinds: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        kinds.setdefault(VALUE.sub("", FOUND.sub("found", _parts(problem)[1])), []).append(problem)
    return [_line(alike) for alike in kinds.values()]


def _parts(problem: str) -> tuple[str, str]:
    """Return file and rest of a problem; no file if it states none."""
    where, colon, what = problem.partition(": ")
    return (where, what) if colon else ("", problem)


def _line(alike: list[str]) -> str:
    first, *others = alike
    if not others:
        return first
    more = f" and {len(alike) - SHOWN} more" if len(alike) > SHOWN else ""
    return f"{len(alike)} times: {first}; also {', '.join(_example(other, first) for other in others[: SHOWN - 1])}{more}"


def _example(problem: str, first: str) -> str:
    """Return where a problem is, and what was found and expected if it differs from the first."""
    where, what = _parts(problem)
    values = [match[0] for pattern in (FOUND, EXPECTED) if (match := pattern.search(what)) and match[0] not in first]
    return f"{where} ({', '.join(values)})" if values else where or problem
