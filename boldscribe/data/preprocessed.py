"""Ready derivatives: a subject's preprocessed runs, in a space where voxels correspond across subjects."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from boldscribe.config.data_settings import Dataset, Preprocessing, PretrainingSet
from boldscribe.data import had
from boldscribe.data.images import load_image
from boldscribe.data.layout import find_preprocessed, find_runs, metadata
from boldscribe.machinery.errors import UserError

Grid = tuple[tuple[int, ...], NDArray[np.float64]]  # shape and affine (mm)
SPACES_ON_THE_GRID = ("MNI152NLin2009cAsym", "MNI152NLin2009aSym")  # of `template.output_grid`


def preprocessed_runs(root: Path, subject: str, design: Dataset | PretrainingSet, settings: Preprocessing) -> dict[str, Path]:
    """Find a subject's preprocessed BOLD, by run label.

    Names follow BIDS-Derivatives (`find_preprocessed`) or, with the adapter `had`, HAD's shipped derivatives. The latter do not name
    their space, so their grid must be the template's.

    Args:
        root: derivatives folder that holds `sub-XX`.
        subject: label without `sub-`.
        design: section of the data set.
        settings: space and resolution (mm).

    Raises:
        UserError: none found, or a grid that is not the template's.
    """
    flat = had.flat_runs(root, subject, design.task) if isinstance(design, Dataset) and design.adapter == "had" else {}
    if not flat:
        return find_preprocessed(root, subject, design.session, design.task, settings.space, settings.resolution, design.run_entities)
    for path in flat.values():
        check_grid(path, settings)
    return flat


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
    found: Grid = (image.shape[:3], np.asarray(image.affine))
    expected: Grid = output_grid(settings.resolution)
    if found[0] != expected[0] or not np.allclose(found[1], expected[1], atol=1e-3):
        raise UserError(
            str(path),
            f"space: found {_described(found)}; expected {_described(expected)}, the grid of {settings.space}. The volumes are in the "
            "subject's own space, where voxels do not correspond between subjects; resample the raw BOLD to the template "
            "with existing transforms (preprocessing.engine: minimal), or preprocess it",
        )


def _described(grid: Grid) -> str:
    shape, affine = grid
    zooms = " x ".join(f"{zoom:.4g}" for zoom in voxel_sizes(affine))
    origin = ", ".join(f"{x:.4g}" for x in affine[:3, 3])
    axes = "".join(nib.aff2axcodes(affine))
    return f"a grid of {' x '.join(map(str, shape))} voxels of {zooms} mm, axes {axes}, first voxel at ({origin}) mm"


def start_time(bold: Path, root: Path, design: Dataset | PretrainingSet, subject: str, run: str) -> float:
    """Return the time from the start of a volume's acquisition to the time of its slice-timing-corrected values (s).

    It is `StartTime` in the sidecar. fMRIPrep before 21.0 omits it and corrects to the middle of the slice times, which are then read
    from the raw sidecar if the derivative states that it is corrected. HAD's shipped derivatives do not state this; they were made
    with fMRIPrep's default, which corrects.

    Args:
        bold: preprocessed run.
        root: derivatives folder.
        design: section of the data set.
        subject, run: labels.
    """
    sidecar = metadata(bold, root)
    if "StartTime" in sidecar:
        return float(sidecar["StartTime"])
    had_run = isinstance(design, Dataset) and design.adapter == "had"
    if not isinstance(design, Dataset) or not sidecar.get("SliceTimingCorrected", had_run):
        return 0.0
    raw = find_runs(design.bids_dir, subject, design.session, design.task, "bold", [".json"], space=None, desc=None)
    times = metadata(raw[run], design.bids_dir).get("SliceTiming") if run in raw else None
    return (min(times) + max(times)) / 2 if times else 0.0
