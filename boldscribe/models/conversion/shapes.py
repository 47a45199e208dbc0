"""Check of published tensors against the modules they are for, by shape only, so that a wrong file costs no memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Size, Tensor

from boldscribe.machinery.errors import UserError

SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Source:
    """Origin of a module's tensor."""

    file: Path
    key: str
    tensor: Tensor


def check_shapes(expected: Mapping[str, Size], sources: Mapping[str, Source]) -> None:
    """Compare shapes without touching any tensor's content.

    Args:
        expected: shapes by the module's names.
        sources: tensors by the same names.

    Raises:
        UserError: shapes differ; names the file, the key, and the found and expected shapes.
    """
    wrong = [
        f"{source.file}, {source.key}: found {tuple(source.tensor.shape)}, expected {tuple(expected[name])}"
        for name, source in sources.items()
        if source.tensor.shape != expected[name]
    ]
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more tensors"] if len(wrong) > SHOWN else []
        raise UserError("shapes of the weights", *wrong[:SHOWN], *more, "these files belong to a model of a different size")


def some(names: Iterable[str]) -> str:
    """List the first few of many names, for a message."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
