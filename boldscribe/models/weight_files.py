"""Weights in safetensors files, the only format opened here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Size, Tensor, nn

from boldscribe.machinery.errors import UserError

M = TypeVar("M", bound=nn.Module)


def load_weights(path: str | Path, remedy: str, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load tensors by name, and the file's metadata.

    Args:
        remedy: advice for the error message if the file is missing or damaged.

    Raises:
        UserError: the file is missing, truncated, or not safetensors.
    """
    with _opened(path, remedy, device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def check_weights(path: str | Path, remedy: str) -> None:
    """Check that a file's header and length match, without reading its tensors.

    Raises:
        UserError: as `load_weights`.
    """
    with _opened(path, remedy, "cpu"):
        pass


def shapes(path: str | Path, remedy: str) -> dict[str, Size]:
    """Read the shapes of a file's tensors by name from its header.

    Raises:
        UserError: as `load_weights`.
    """
    with _opened(path, remedy, "cpu") as file:
        return {name: Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def fill(module: M, state: dict[str, Tensor], origin: str, expected: str) -> M:
    """Load weights into a module and return it frozen, in evaluation mode; a module on the meta device takes over the tensors.

    Args:
        origin: the file, for the error message.
        expected: what it should be, for the error message.

    Raises:
        UserError: a tensor is missing, unexpected, or of another shape than the module's.
    """
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [k for k, v in own.items() if k in state and state[k].shape != v.shape]
    if missing or unexpected or wrong:
        raise UserError(
            origin,
            f"weights do not fit {type(module).__name__}: missing {missing or 'none'}, unexpected {unexpected or 'none'}, "
            f"wrong shape {wrong or 'none'}; expected {expected}",
        )
    module.load_state_dict(state, assign=any(v.is_meta for v in own.values()))
    return module.eval().requires_grad_(False)


@contextmanager
def _opened(path: str | Path, remedy: str, device: str) -> Iterator[Any]:
    if not Path(path).is_file():
        raise UserError(str(path), f"weights are missing: expected a .safetensors file; {remedy}")
    try:
        with safe_open(path, "pt", device=device) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(str(path), f"found a file that cannot be opened ({error}), expected safetensors; {remedy}") from None
