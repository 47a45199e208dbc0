"""Tensors of published files against the modules that they are for, by shape alone, so that a wrong file costs no memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Size, Tensor

from boldscribe.errors import UserError

SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Source:
    """Where a module's tensor comes from."""

    file: Path
    key: str
    tensor: Tensor


def check_shapes(expected: Mapping[str, Size], sources: Mapping[str, Source]) -> None:
    """Compare shapes; no tensor's content is touched.

    Args:
        expected: shapes by the module's names.
        sources: tensors by the same names.

    Raises:
        UserError: shapes differ; says file, key, the shape found and the one expected.
    """
    wrong = [
        f"{source.file}, {source.key}: found {tuple(source.tensor.shape)}, expected {tuple(expected[name])}"
        for name, source in sources.items()
        if source.tensor.shape != expected[name]
    ]
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more tensors"] if len(wrong) > SHOWN else []
        raise UserError("shapes of the weights", *wrong[:SHOWN], *more, "these files belong to a model of another size")


def some(names: Iterable[str]) -> str:
    """The first few of many names, for a message."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
