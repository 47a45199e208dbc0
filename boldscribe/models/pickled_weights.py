"""Pickled torch checkpoints (.pth, .bin, .pt), opened through an allow-list: unpickling builds tensors and containers but runs no code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from boldscribe.machinery.errors import UserError

# Classes of the `config` objects in MinD-Vis checkpoints, from its `code/config.py`; its scripts run with that folder on the path.
CONFIG_CLASSES = ("Config_MAE_fMRI", "Config_MBM_fMRI", "Config_MBM_finetune", "Config_Generative_Model")
ZIP, PICKLE, LFS_POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"


class TrainingConfig:
    """Stand-in for a pickled configuration object: stores its fields as attributes and has no behaviour that a file could call."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a file by name, memory-mapped if the format allows it, and its other entries (optimizer, epoch, ...)."""

    path: Path
    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint with tensors under `model` or at the top level.

    Tensors are loaded into memory on use, except from files in torch's pre-2020 format, which are read whole.

    Raises:
        UserError: the file is missing, truncated or not a checkpoint, references a class or function that is not on the allow-list,
            or holds no tensors where they are expected.
    """
    path = Path(path)
    content = _unpickled(path)
    if not isinstance(content, dict):
        raise UserError(str(path), f"found a pickled {type(content).__name__}, expected a dict of tensors")
    tensors, beside = content, {}
    if isinstance(content.get("model"), dict):
        tensors, beside = content["model"], {k: v for k, v in content.items() if k != "model"}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        names = ", ".join(str(name) for name in list(content)[:6]) or "nothing"
        raise UserError(str(path), f"found {names}, expected a dict of tensors, at the top level or under 'model'")
    return Checkpoint(path, tensors, beside)


def _unpickled(path: Path) -> Any:
    start = _first_bytes(path)
    zipped = start.startswith(ZIP)
    if not zipped and not start.startswith(PICKLE):
        found = "a Git LFS pointer, not the file it points to" if start.startswith(LFS_POINTER) else "another kind of file"
        raise UserError(str(path), f"found {found}, expected a torch checkpoint (.pth, .bin, .pt); download it again")
    with safe_globals([(TrainingConfig, f"config.{name}") for name in CONFIG_CLASSES]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about storage classes that torch no longer uses
        try:
            if zipped and (refused := get_unsafe_globals_in_checkpoint(path)):
                raise _refusal(path, sorted(refused))
            return torch.load(path, weights_only=True, mmap=zipped, map_location="cpu")
        except UnpicklingError as error:
            # torch reports a refused name only in its message
            if names := re.findall(r"GLOBAL ([\w.]+)", str(error)):
                raise _refusal(path, names[:1]) from None
            raise _damaged(path, error) from None
        except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
            raise _damaged(path, error) from None


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(str(path), "the file is missing: expected a torch checkpoint (.pth, .bin, .pt)")
    with path.open("rb") as stream:
        return stream.read(len(LFS_POINTER))


def _refusal(path: Path, names: list[str]) -> UserError:
    return UserError(
        str(path),
        f"unpickling it would call or create {', '.join(names)}, which is not on the allow-list for weights; nothing was executed. "
        "Do not open the file with other programs unless you trust its origin; download it again from its publisher",
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        str(path), f"found a file that is truncated or not a torch checkpoint ({str(error).splitlines()[0][:120]}); download it again"
    )
