"""Ready derivatives: a subject's preprocessed runs, in a space where voxels correspond across subjects, and the files next to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes

from boldscribe.config.data_settings import Dataset, Preprocessing, PretrainingSet
from boldscribe.data import had
from boldscribe.data.images import describe_grid, load_image
from boldscribe.data.layout import choose, name_parts, resolution_label, run_files, ways_to_choose
from boldscribe.machinery.errors import UserError

SPACES_ON_THE_GRID = ("MNI152NLin2009cAsym", "MNI152NLin2009aSym")  # of `template.output_grid`


def preprocessed_runs(root: Path, subject: str, design: Dataset | PretrainingSet, settings: Preprocessing) -> dict[str, Path]:
    """Find a subject's preprocessed BOLD, by run label.

    Names follow BIDS-Derivatives (`find_preprocessed`) or, with the adapter `had`, HAD's shipped derivatives. The latter do not name
    their space, so their grid must be the template's.

    Args:
        root: derivatives folder that holds `sub-XX`.
        subject: label without `sub-`.
        design: section of the data set.
        settings: space; and resolution (mm), which decides if runs exist in several.

    Raises:
        UserError: none found, several for one run, or a grid that is not the template's.
    """
    flat = had.flat_runs(root, subject, design.tasks[0]) if isinstance(design, Dataset) and design.adapter == "had" else {}
    if not flat:
        return find_preprocessed(root, subject, design, settings)
    for path in flat.values():
        check_grid(path, settings)
    return flat


def find_preprocessed(root: Path, subject: str, design: Dataset | PretrainingSet, settings: Preprocessing) -> dict[str, Path]:
    """Find preprocessed runs in the configured space, by label.

    `res` is a label, which states no size; the grid is that of the images. A run that exists in several resolutions is taken in the one
    that `entities` names, else in the one whose voxels have the configured size, else in the one with its label.

    Raises:
        UserError: none found, or several files for one run (with their grids).
    """
    runs: dict[str, list[Path]] = {}
    for path in run_files(root, subject, design.choice):
        found = name_parts(path)
        if found.get("space") == settings.space and found.get("desc") == "preproc":
            runs.setdefault(design.choice.label(found), []).append(path)
    if not runs:
        there = sorted({p.name.split("_", 1)[1] for p in (root / f"sub-{subject}").rglob("*desc-preproc_bold.nii*")})
        if not there and any((root / f"sub-{subject}").rglob("func/*_xfm.*")):
            raise UserError(
                str(root / f"sub-{subject}"),
                "preprocessed BOLD: found none, but transforms, as fMRIPrep's --level minimal or resampling writes them; expected "
                f"{design.choice.words}…desc-preproc_bold.nii.gz; resample the raw BOLD with these transforms "
                "(preprocessing.engine: minimal)",
            )
        raise UserError(
            str(root / f"sub-{subject}"),
            f"preprocessed BOLD: found {', '.join(there[:4]) or 'none'}; expected {design.choice.words}…space-{settings.space}"
            "…_desc-preproc_bold.nii.gz; correct preprocessing.space, task, session",
        )
    chosen = {label: _in_resolution(choose(files, design.choice.variant), settings.resolution) for label, files in sorted(runs.items())}
    for label, files in chosen.items():
        if len(files) > 1:
            raise UserError(str(files[0].parent), f"run {label}: {_several(files)}")
    return {label: files[0] for label, files in chosen.items() if files}


def _in_resolution(files: Sequence[Path], resolution: float) -> list[Path]:
    """Return, of several files, those with voxels of this size (mm), or else those with its label; all of them if there are none."""
    if len(files) < 2:
        return list(files)
    in_size = [p for p in files if np.allclose(voxel_edges(p), resolution, atol=0.01)]
    return in_size or [p for p in files if name_parts(p).get("res") == resolution_label(resolution)] or list(files)


def voxel_edges(bold: Path) -> tuple[float, ...]:
    """Return the edges of a preprocessed image's voxels (mm), to 0.01 mm."""
    return tuple(round(float(edge), 2) for edge in voxel_sizes(load_image(bold, 4).affine))


def _several(files: Sequence[Path]) -> str:
    """Describe several files of one run by names and grids, with the ways to choose."""
    grids = {p: load_image(p, 4) for p in files}
    found = " and ".join(f"{p.name} ({describe_grid(image.shape[:3], image.affine)})" for p, image in grids.items())
    return f"found {found}, expected one file; {ways_to_choose(files)}, or in preprocessing.resolution"


def companion(bold: Path, desc: str, suffixes: Sequence[str], extensions: Sequence[str], may_lack: Sequence[str]) -> Path | None:
    """Find a file that belongs to a preprocessed run, by BIDS' rule: its entities are the run's, but it may lack some of them.

    Args:
        bold: preprocessed image.
        desc, suffixes, extensions: of the file; a suffix takes precedence over those after it.
        may_lack: entities of the image that the file may lack, such as `echo`.

    Returns:
        the file that has most entities in common with the image; None if there is none.
    """
    own = {k: v for k, v in name_parts(bold).items() if k != "desc"}

    def belongs(found: Mapping[str, str]) -> bool:
        return found.items() <= own.items() and own.keys() - found.keys() <= set(may_lack)

    for suffix in suffixes:
        files = [p for e in extensions for p in sorted(bold.parent.glob(f"{bold.name.split('_')[0]}_*desc-{desc}_{suffix}{e}"))]
        matching = [p for p in files if belongs({k: v for k, v in name_parts(p).items() if k != "desc"})]
        if matching:
            return max(matching, key=lambda p: len(name_parts(p)))
    return None


def check_grid(path: Path, settings: Preprocessing) -> None:
    """Check that an image without a space in its name is on the grid of the configured space.

    Raises:
        UserError: it is on another grid, or the grid of the configured space is not known here.
    """
    from boldscribe.data.template import output_grid

    if settings.space not in SPACES_ON_THE_GRID:
        raise UserError(
            str(path),
            f"space: found none in the file name, and the grid of {settings.space} is unknown; expected one of "
            f"{', '.join(SPACES_ON_THE_GRID)} in preprocessing.space; rename the derivatives according to BIDS, or change the space",
        )
    image = load_image(path, 4)
    shape, affine = output_grid(settings.resolution)
    if image.shape[:3] != shape or not np.allclose(image.affine, affine, atol=1e-3):
        found, expected = describe_grid(image.shape[:3], image.affine), describe_grid(shape, affine)
        raise UserError(
            str(path),
            f"space: found {found}; expected {expected}, the grid of {settings.space}. The volumes are in the "
            "subject's own space, where voxels do not correspond between subjects; resample the raw BOLD to the template "
            "with existing transforms (preprocessing.engine: minimal), or preprocess it",
        )
