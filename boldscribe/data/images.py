"""NIfTI images: loading with actionable error messages, and writing that gives equal bytes for equal content."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic

SECONDS_PER_UNIT = {"sec": 1.0, "unknown": 1.0, "msec": 1e-3, "usec": 1e-6}
FETCH_AGAIN = "the file is damaged or incomplete; fetch or recreate it"


def load_image(path: str | Path, ndim: int) -> nib.Nifti1Image:
    """Open a NIfTI image; its data stay on disk.

    Args:
        path: `.nii` or `.nii.gz`.
        ndim: 3 for a volume, 4 for a series.

    Raises:
        UserError: missing, not NIfTI, or a different number of dimensions.
    """
    try:
        image = nib.load(path)
    except FileNotFoundError:
        raise UserError(str(path), "the image does not exist; check the data set and the labels in the configuration") from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(str(path), f"cannot be opened as NIfTI ({error}); {FETCH_AGAIN}") from None
    if len(image.shape) != ndim:
        kind = "series of volumes" if ndim == 4 else "volume"
        raise UserError(str(path), f"shape: found {image.shape}, expected {ndim} dimensions; provide one {kind}")
    return image


def image_data(image: nib.Nifti1Image) -> NDArray[np.float32]:
    """Load the voxel values as float32.

    Raises:
        UserError: truncated data, or volumes with NaN or infinity (named).
    """
    path = str(image.get_filename())
    try:
        data = np.asanyarray(image.dataobj).astype(np.float32, copy=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(path, f"the data cannot be read ({error}); {FETCH_AGAIN}") from None
    finite = np.isfinite(data).all(axis=(0, 1, 2))
    if not finite.all():
        volumes = ", ".join(map(str, np.flatnonzero(~np.atleast_1d(finite))[:10]))
        raise UserError(
            path,
            f"voxel values: found NaN or infinity in {np.size(finite) - np.count_nonzero(finite)} volume(s) (index {volumes}), "
            "expected finite numbers; repair the image or remove the run from the data set",
        )
    return data


def missing_bytes(path: Path, image: nib.Nifti1Image) -> int:
    """Return how many bytes are missing according to the header, 0 if none. A `.gz` file is read in full, with its checksum."""
    expected = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    if path.suffix != ".gz":
        return max(0, expected - path.stat().st_size)
    found = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                found += len(block)
    except (OSError, EOFError, zlib.error):
        return max(1, expected - found)
    return max(0, expected - found)


def repetition_time(image: nib.Nifti1Image) -> float:
    """Return the TR (s) from the header of a series, 0 if the header has none."""
    return float(image.header.get_zooms()[3]) * SECONDS_PER_UNIT.get(image.header.get_xyzt_units()[1], 1.0)


def save_image(
    path: str | Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    tr: float | None = None,
    dtype: str = "float32",
    code: str = "scanner",
    intent: str | None = None,
) -> Path:
    """Write a `.nii.gz` atomically and without timestamp.

    Args:
        data: (X, Y, Z), (X, Y, Z, T), or the shape that `intent` requires.
        affine: voxel to world (mm).
        tr: repetition time (s) of a series.
        dtype: type on disk; integers too small for the data's range get a scale factor.
        code: meaning of the world coordinates: `scanner`, `mni`, ...
        intent: NIfTI intent, such as `vector` for a displacement field.
    """
    image = nib.Nifti1Image(data, affine)
    image.set_data_dtype(dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if tr is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    if intent is not None:
        image.header.set_intent(intent)
    with atomic(path) as part, part.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        image.to_stream(packed)
    return Path(path)


def apply_affine(affine: NDArray[Any], points_3N: NDArray[Any]) -> NDArray[np.float64]:
    """Transform points given as columns."""
    return np.asarray(affine[:3, :3] @ points_3N + affine[:3, 3:])
