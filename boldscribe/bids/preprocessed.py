"""Ready derivatives: a subject's preprocessed runs, in a space where voxels of two subjects correspond."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from boldscribe.bids import had
from boldscribe.bids.layout import find_preprocessed, find_runs, metadata
from boldscribe.errors import UserError
from boldscribe.images import load_image
from boldscribe.sections.data import Dataset, Preprocessing, PretrainingSet

Grid = tuple[tuple[int, ...], NDArray[np.float64]]  # shape and affine (mm)
SPACES_ON_THE_GRID = ("MNI152NLin2009cAsym", "MNI152NLin2009aSym")  # of `template.output_grid`


def preprocessed_runs(root: Path, subject: str, design: Dataset | PretrainingSet, settings: Preprocessing) -> dict[str, Path]:
    """Preprocessed BOLD of a subject's runs, by run label.

    Names are those of BIDS-Derivatives (`find_preprocessed`), or, with the adapter `had`, those of its shipped derivatives, which do
    not name their space: then the grid must be the template's.

    Args:
        root: derivatives, which hold `sub-XX`.
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
    """Make sure that an image whose name does not say its space is on the grid of the configured one.

    Raises:
        UserError: it is on another grid, or the configured space is one whose grid is not known here.
    """
    from boldscribe.preprocessing.template import output_grid

    if settings.space not in SPACES_ON_THE_GRID:
        raise UserError(
            str(path),
            f"space: found none in its name, and the grid of {settings.space} is not known here; expected one of "
            f"{', '.join(SPACES_ON_THE_GRID)} in preprocessing.space; rename the derivatives after BIDS, or change the space",
        )
    image = load_image(path, 4)
    found: Grid = (image.shape[:3], np.asarray(image.affine))
    expected: Grid = output_grid(settings.resolution)
    if found[0] != expected[0] or not np.allclose(found[1], expected[1], atol=1e-3):
        raise UserError(
            str(path),
            f"space: found {_described(found)}; expected {_described(expected)}, that of {settings.space}. The volumes lie in the "
            "subject's own space, where voxels of two subjects do not correspond; carry the raw BOLD to the template by ready transforms "
            "(preprocessing.engine: minimal), or preprocess it",
        )


def _described(grid: Grid) -> str:
    shape, affine = grid
    zooms = " x ".join(f"{zoom:.4g}" for zoom in voxel_sizes(affine))
    origin = ", ".join(f"{x:.4g}" for x in affine[:3, 3])
    axes = "".join(nib.aff2axcodes(affine))
    return f"a grid of {' x '.join(map(str, shape))} voxels of {zooms} mm, axes {axes}, first voxel at ({origin}) mm"


def start_time(bold: Path, root: Path, design: Dataset | PretrainingSet, subject: str, run: str) -> float:
    """Time from the start of a volume's acquisition to what its values stand for after slice-timing correction (s).

    Read off the sidecar (`StartTime`). fMRIPrep before 21.0 leaves it out, and corrects to the middle of the slice times: then these
    come from the raw sidecar, where the derivative says that it is corrected. HAD's shipped derivatives do not say; they were made
    with fMRIPrep's default, which corrects.

    Args:
        bold: preprocessed run.
        root: derivatives.
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
