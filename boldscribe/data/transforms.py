"""Transforms of ready derivatives: the files of `fmriprep --level minimal` by name, and ITK's text format.

A file `from-A_to-B_mode-image` resamples an image of A onto a grid of B. Applied to points it works the other way: it maps a point
of B to A. Everything here uses that direction, B to A, and NIfTI's world coordinates (RAS, mm).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boldscribe.data.images import describe_grid, image_data, load_image, same_grid
from boldscribe.machinery.errors import UserError

# ITK's world axes point left and posterior
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TRANSFORM = re.compile(r"^Transform:\s*(\S+)\s*^Parameters:([^\n]*)\s*^FixedParameters:([^\n]*)$", re.MULTILINE)
MATRIX_TYPES = ("AffineTransform", "MatrixOffsetTransformBase")
HDF5 = b"\x89HDF\r\n\x1a\n"
# offset of the file length in HDF5's superblock, by superblock version
HDF5_END = {0: 40, 1: 44, 2: 28, 3: 28}
POINTERS = (b"/annex/objects/", b"version https://git-lfs")
FETCH = "get its content with `boldscribe fetch` or `datalad get`"


@dataclass(frozen=True)
class Anatomy:
    """A subject's anatomical files: transform T1w → template, and brain mask and tissue probabilities on the T1w grid."""

    to_template: Path
    mask: Path
    white_matter: Path
    csf: Path


@dataclass(frozen=True)
class RunTransforms:
    """A run's transform files.

    Attributes:
        motion: volumes → reference, one affine each.
        reference: the volume that they were aligned to.
        to_t1w: reference → T1w.
        to_fieldmap, fieldmap: reference → field map, and that map (Hz); None if the derivatives have none for this run.
    """

    motion: Path
    reference: Path
    to_t1w: Path
    to_fieldmap: Path | None
    fieldmap: Path | None


def find_anatomy(root: Path, subject: str, space: str) -> Anatomy:
    """Find a subject's anatomical files, in any session.

    Raises:
        UserError: a missing or duplicate file; lists the available spaces if the requested one is missing.
    """
    folder = root / f"sub-{subject}"

    def find(ending: str) -> list[Path]:
        return sorted([*folder.glob(f"anat/sub-{subject}_*{ending}"), *folder.glob(f"ses-*/anat/sub-{subject}_*{ending}")])

    problems: list[str] = []
    found: list[Path] = []
    wanted = {
        f"from-T1w_to-{space}_mode-image_xfm.h5": "",
        "desc-brain_mask.nii.gz": "_space-",
        "label-WM_probseg.nii.gz": "_space-",
        "label-CSF_probseg.nii.gz": "_space-",
    }
    for ending, other in wanted.items():
        files = [path for path in find(ending) if not other or other not in path.name]
        if len(files) == 1:
            found += files
        elif files:
            problems.append(f"{folder}: found {', '.join(p.name for p in files)}, expected one *_{ending}; remove the wrong ones")
        elif other:
            problems.append(f"{folder}: found no anat/*_{ending}, expected one; {FETCH}")
        else:
            there = sorted({path.name.split("_to-")[1].split("_")[0] for path in find("from-T1w_to-*_mode-image_xfm.h5")})
            problems.append(
                f"{folder}: found transforms from T1w to {', '.join(there) or 'no template'}, expected anat/*_{ending}; "
                "correct preprocessing.space, or fetch the file"
            )
    if problems:
        raise UserError(str(folder), *problems)
    return Anatomy(*found)


def find_run(root: Path, raw: Path, bold: Path) -> RunTransforms:
    """Return the files that belong to a raw run, by its name; `transform_problems` checks whether they exist.

    fMRIPrep's names leave out `echo` and `part`: all of a run's images share their transforms.
    """
    folder = (root / bold.relative_to(raw)).parent
    name = "_".join(part for part in bold.name.split("_")[:-1] if not part.startswith(("echo-", "part-")))
    by_map = _to_fieldmaps(folder, name)
    to_fieldmap = next(iter(by_map.values()), None)
    fieldmap = None
    if to_fieldmap is not None:
        ending = f"fmapid-{next(iter(by_map))}_desc-preproc_fieldmap.nii.gz"
        fieldmap = next(
            iter(sorted(folder.parent.glob(f"fmap/*_{ending}"))), folder.parent / "fmap" / f"{name.split('_task-')[0]}_{ending}"
        )
    return RunTransforms(
        folder / f"{name}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        folder / f"{name}_desc-hmc_boldref.nii.gz",
        folder / f"{name}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        to_fieldmap,
        fieldmap,
    )


def _to_fieldmaps(folder: Path, name: str) -> dict[str, Path]:
    """Return a run's transforms to field maps, by id of the map; fMRIPrep 25.2 added `desc-fmap` to their names."""
    found = {}
    for ending in ("", "_desc-fmap"):
        for path in sorted(folder.glob(f"{name}_from-boldref_to-*_mode-image{ending}_xfm.txt")):
            label = path.name.split("_to-")[1].split("_")[0]
            if label not in ("T1w", "T2w", "anat"):
                found[label] = path
    return found


def transform_problems(root: Path, raw: Path, subject: str, bolds: Mapping[str, Path], space: str) -> list[str]:
    """Return problems that would stop `minimal.resample_subject`: files that are missing, unreadable, or of other raw images.

    Args:
        root: of the derivatives.
        raw: root of the raw data set.
        subject: label without `sub-`.
        bolds: raw runs by label.
        space: template label.
    """
    problems: list[str] = []
    try:
        anatomy = find_anatomy(root, subject, space)
        problems += filter(None, map(_content_problem, vars(anatomy).values()))
        if not problems:
            problems += _anatomy_problems(anatomy)
    except UserError as error:
        problems += error.problems
    for bold in bolds.values():
        files = find_run(root, raw, bold)
        if files.to_fieldmap and len(maps := _to_fieldmaps(files.motion.parent, files.motion.name.split("_from-")[0])) > 1:
            problems.append(
                f"{files.motion.parent}: field map: found transforms of {bold.name} to {' and '.join(maps)}, expected one; keep that of "
                "the map by which the derivatives correct the run"
            )
        problems += _run_problems(files, bold)
    return problems


def _anatomy_problems(anatomy: Anatomy) -> Iterator[str]:
    """Yield the problems of the images of an anatomy: unreadable, not finite, or without a voxel above 0."""
    for path in (anatomy.mask, anatomy.white_matter, anatomy.csf):
        try:
            if not (image_data(load_image(path, 3)) > 0).any():
                yield f"{path}: voxels: found none above 0, expected some; {FETCH}"
        except UserError as error:
            yield str(error)


def _run_problems(files: RunTransforms, bold: Path) -> Iterator[str]:
    lacking = [problem for path in vars(files).values() if path is not None and (problem := _content_problem(path))]
    if lacking:
        yield from lacking
        return
    try:
        image, reference = load_image(bold, 4), load_image(files.reference, 3)
        motion = read_affines(files.motion)
        for path in filter(None, (files.to_t1w, files.to_fieldmap)):
            read_affine(path)
        if files.fieldmap is not None:
            image_data(load_image(files.fieldmap, 3))
    except UserError as error:
        yield str(error)
        return
    if len(motion) != image.shape[3]:
        yield (
            f"{files.motion}: found {len(motion)} transforms, expected {image.shape[3]}, one for each volume of {bold.name}; "
            "use the raw images that the derivatives were made from"
        )
    if not same_grid(reference, image, tolerance=1e-2):
        yield (
            f"{files.reference}: grid: found {describe_grid(reference.shape, reference.affine)}, expected "
            f"{describe_grid(image.shape[:3], image.affine)} as in {bold.name}; "
            "use the raw images that the derivatives were made from"
        )


def _content_problem(path: Path) -> str | None:
    """Return why a file cannot be read: missing, a link or pointer to content elsewhere, empty, or truncated (HDF5); else None."""
    if path.is_symlink() and not path.exists():
        return f"{path}: found a link to missing content (git-annex), expected a file; {FETCH}"
    if not path.is_file():
        return f"{path}: the file does not exist, and the engine 'minimal' needs it; {FETCH}"
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(64)
    if size == 0:
        return f"{path}: found 0 bytes, expected a file with content; {FETCH}"
    if start.startswith(POINTERS):
        return f"{path}: found a pointer to missing content (git-annex or Git LFS), expected the file itself; {FETCH}"
    # ITK aborts the whole process on a truncated file
    if path.suffix == ".h5":
        end = HDF5_END.get(start[8], 0) if start.startswith(HDF5) and len(start) == 64 else 0
        if not end:
            return f"{path}: found no HDF5 file, expected ITK's composite transform; {FETCH}"
        if size < (stated := struct.unpack_from("<Q", start, end)[0]):
            return f"{path}: found {size} bytes, expected {stated} according to its header: it is truncated; {FETCH}"
    return None


def read_affines(path: Path) -> NDArray[np.float64]:
    """Read the affine transforms of an ITK text file, in file order.

    Returns:
        (N, 4, 4), on RAS world coordinates (mm), from the space after `to-` in the file's name to that after `from-`.

    Raises:
        UserError: not ITK's text format, or a transform that is not an affine matrix.
    """
    try:
        blocks = TRANSFORM.findall(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot be read as text ({error}); {FETCH}") from None
    matrices = []
    for kind, parameters, fixed in blocks:
        try:
            values, centre = np.array(parameters.split(), float), np.array(fixed.split(), float)
        except ValueError:
            raise UserError(str(path), f"Parameters: found {parameters.strip()[:60]!r}, expected numbers; {FETCH}") from None
        if not kind.startswith(MATRIX_TYPES) or values.shape != (12,) or centre.shape != (3,):
            raise UserError(
                str(path), f"Transform: found {kind} with {values.size} parameters, expected AffineTransform with 12; convert it"
            )
        matrix = np.eye(4)
        matrix[:3, :3] = values[:9].reshape(3, 3)
        matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
        matrices.append(LPS @ matrix @ LPS)
    if not matrices:
        raise UserError(str(path), f"found no transform, expected ITK's text format (#Insight Transform File V1.0); {FETCH}")
    return np.stack(matrices)


def read_affine(path: Path) -> NDArray[np.float64]:
    """Read the only transform of an ITK text file, (4, 4).

    Raises:
        UserError: see `read_affines`; or several transforms.
    """
    matrices = read_affines(path)
    if len(matrices) != 1:
        raise UserError(str(path), f"found {len(matrices)} transforms, expected one")
    return np.asarray(matrices[0])
