"""The checkout's folder, atomic writes by rename, and arrays with a JSON header (docs/data.md)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boldscribe.machinery.errors import UserError

if TYPE_CHECKING:  # Snakemake imports this module at the start of every job and needs no arrays
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]  # the checkout
UMASK = os.umask(0)
os.umask(UMASK)


def _share(file: Path) -> None:
    """Set the default permissions of new files: safetensors writes weights that only their owner can read."""
    file.chmod(0o666 & ~UMASK)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to `path` on success and removed on failure.

    A killed job leaves no partial output: readers see the old file or the complete new one. The suffix is kept, since many
    writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = "".join(path.suffixes)
    temporary = path.with_name(f".{path.name.removesuffix(suffixes)}.{os.getpid()}.part{suffixes}")
    try:
        yield temporary
        _share(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`, which replaces it on success and is removed on failure."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _share(file)
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, with sorted keys, so that equal content gives equal bytes."""
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's content."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_digest(content: Any) -> str:
    """Return the SHA-256 of JSON content, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def header_path(path: str | Path) -> Path:
    """Return the path of an array's JSON header: same name, `.json`."""
    return Path(path).with_suffix(".json")


def save_array(path: str | Path, array: NDArray[Any], **header: Any) -> None:
    """Write an array as `.npy` with its JSON header: `shape`, `dtype`, and the caller's entries (axes, units, ...)."""
    import numpy as np

    write_json(header_path(path), {"shape": list(array.shape), "dtype": str(array.dtype), **header})
    with atomic(path) as part:
        np.save(part, array)


def load_array(path: str | Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """Memory-map an array and read its header.

    Raises:
        UserError: file or header is missing or truncated, or their shapes differ.
    """
    import numpy as np

    try:
        header = json.loads(header_path(path).read_text())
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(str(path), f"cannot be read as an array with a JSON header: {error}; delete it and run the stage again") from None
    if list(array.shape) != header["shape"]:
        raise UserError(str(path), f"shape {list(array.shape)}, but its header says {header['shape']}; delete both and run the stage again")
    return array, header


def gigabytes(size: float) -> str:
    """Format a size in GB, or in MB below 1 GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
