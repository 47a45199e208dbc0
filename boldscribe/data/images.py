"""NIfTI images: loading with actionable error messages, and writing that gives equal bytes for equal content."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic

SECONDS_PER_UNIT = {"sec": 1.0, "unknown": 1.0, "msec": 1e-3, "usec": 1e-6}
FETCH_AGAIN = "the file is damaged or incomplete; fetch or recreate it"


def load_image(path: str | Path, ndim: int, *, keep_file_open: bool | None = None) -> nib.Nifti1Image:
    """Open a NIfTI image; its data stay on disk. Superfluous dimensions of length 1 after the third are dropped.

    Args:
        path: `.nii` or `.nii.gz`.
        ndim: 3 for a volume, 4 for a series.
        keep_file_open: for a series that is read volume by volume.

    Raises:
        UserError: missing, not NIfTI, or a different number of dimensions.
    """
    try:
        image = nib.load(path, keep_file_open=keep_file_open)
    except FileNotFoundError:
        raise UserError(str(path), "the image does not exist; check the data set and the labels in the configuration") from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(str(path), f"cannot be opened as NIfTI ({error}); {FETCH_AGAIN}") from None
    if len(image.shape) > ndim:
        image = _squeezed(image, ndim)
    if len(image.shape) != ndim:
        kind = "series of volumes" if ndim == 4 else "volume"
        raise UserError(str(path), f"shape: found {image.shape}, expected {ndim} dimensions; provide one {kind}")
    return image


def _squeezed(image: nib.Nifti1Image, ndim: int) -> nib.Nifti1Image:
    """Return an image without dimensions of length 1 after the third, if that leaves `ndim` dimensions; its data stay on disk."""
    later = [n for n in image.shape[3:] if n != 1] or [1] * (ndim - 3)
    if 3 + len(later) != ndim:
        return image
    header = image.header.copy()
    zooms = [zoom for n, zoom in zip(image.shape[3:], header.get_zooms()[3:], strict=True) if n != 1] or [1.0] * (ndim - 3)
    header.set_data_shape((*image.shape[:3], *later))
    header.set_zooms((*header.get_zooms()[:3], *zooms))
    data = image.dataobj.reshape((*image.shape[:3], *later))
    return type(image)(data, image.affine, header, file_map=image.file_map)


def image_data(image: nib.Nifti1Image, mask_XYZ: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Load the voxel values as float32.

    Args:
        image: opened by `load_image`.
        mask_XYZ: voxels whose values must be finite; None for all.

    Raises:
        UserError: truncated data, or volumes with NaN or infinity (named).
    """
    data = _read(image, ...).astype(np.float32, copy=False)
    finite = np.isfinite(data).all(axis=(0, 1, 2)) if mask_XYZ is None else np.isfinite(data[mask_XYZ]).all(axis=0)
    _refuse_nonfinite(image, np.flatnonzero(~np.atleast_1d(finite)), mask_XYZ)
    return data


def check_values(image: nib.Nifti1Image, mask_XYZ: NDArray[np.bool_]) -> None:
    """Check that a series has finite values inside a mask, volume by volume, so that little memory is needed.

    Raises:
        UserError: see `image_data`.
    """
    if image.get_data_dtype().kind != "f":
        return
    opened = load_image(image.get_filename(), 4, keep_file_open=True)
    broken = [t for t in range(image.shape[3]) if not np.isfinite(_read(opened, (..., t))[mask_XYZ]).all()]
    _refuse_nonfinite(image, broken, mask_XYZ)


def mask_data(image: nib.Nifti1Image) -> NDArray[np.bool_]:
    """Load a mask: true where its value is above 0. NaN, which some programs write outside the brain, is outside.

    Raises:
        UserError: truncated data.
    """
    return np.asarray(_read(image, ...) > 0)


def _read(image: nib.Nifti1Image, index: Any) -> NDArray[Any]:
    try:
        return np.asanyarray(image.dataobj[index])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(str(image.get_filename()), f"the data cannot be read ({error}); {FETCH_AGAIN}") from None


def _refuse_nonfinite(image: nib.Nifti1Image, volumes: Sequence[int] | NDArray[np.intp], mask_XYZ: NDArray[np.bool_] | None) -> None:
    if len(volumes):
        where = "" if mask_XYZ is None else " inside the brain mask"
        raise UserError(
            str(image.get_filename()),
            f"voxel values: found NaN or infinity in {len(volumes)} volume(s) (index {', '.join(map(str, volumes[:10]))}){where}, "
            "expected finite numbers; repair the image or remove the run from the data set",
        )


def describe_grid(shape: Sequence[int], affine: NDArray[np.float64]) -> str:
    """Describe a grid in words: its voxels, axes and position; of an oblique grid also the affine."""
    zooms = " x ".join(f"{zoom:.5g}" for zoom in voxel_sizes(affine))
    origin = ", ".join(f"{x:.6g}" for x in affine[:3, 3])
    plumb = np.count_nonzero(np.abs(affine[:3, :3]) > 1e-6) == 3
    oblique = "" if plumb else f", affine {np.round(affine[:3], 4).tolist()}"
    axes = "".join(nib.aff2axcodes(affine))
    return f"a grid of {' x '.join(map(str, shape))} voxels of {zooms} mm, axes {axes}, first voxel at ({origin}) mm{oblique}"


def same_grid(one: nib.Nifti1Image, other: nib.Nifti1Image, tolerance: float = 1e-3) -> bool:
    """Return whether the voxels of two images correspond: equal shapes, and affines that differ by no more than `tolerance` (mm)."""
    return bool(one.shape[:3] == other.shape[:3] and np.allclose(one.affine, other.affine, atol=tolerance))


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
    try:
        unit = image.header.get_xyzt_units()[1]
    except KeyError:  # a code that NIfTI does not define
        unit = "unknown"
    return float(image.header.get_zooms()[3]) * SECONDS_PER_UNIT.get(unit, 1.0)


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
