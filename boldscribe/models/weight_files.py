"""Weights from safetensors files, the only format that is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from boldscribe.errors import UserError


def load_weights(path: str | Path, remedy: str, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the file's metadata.

    Args:
        remedy: what to do when the file is missing or damaged, for the message.

    Raises:
        UserError: the file is missing, truncated, or not safetensors.
    """
    with _opened(path, remedy, device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def check_weights(path: str | Path, remedy: str) -> None:
    """Open a file without reading its tensors: its header and its length fit each other.

    Raises:
        UserError: as `load_weights`.
    """
    with _opened(path, remedy, "cpu"):
        pass


@contextmanager
def _opened(path: str | Path, remedy: str, device: str) -> Iterator[Any]:
    if not Path(path).is_file():
        raise UserError(str(path), f"weights are missing: expected a .safetensors file; {remedy}")
    try:
        with safe_open(path, "pt", device=device) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(str(path), f"found a file that does not open ({error}), expected safetensors; {remedy}") from None
