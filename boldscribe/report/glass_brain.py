"""Glass-brain views of a data set's map of where the information is."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import nibabel
import numpy as np
from matplotlib import pyplot as plt
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from boldscribe.machinery.errors import UserError
from boldscribe.report.figures import Figure

SIZE = (9.0, 3.4)  # inches
DPI = 110
SHOWN = 0.2  # share of the non-zero voxels that is drawn: the strongest

Floats = NDArray[np.float32]


def glass_brain(path: Path, dataset: str) -> Figure | None:
    """Draw three views of a map in MNI space, as images for light and dark screens; None if the map is 0 everywhere.

    Args:
        path: NIfTI image.
        dataset: the data set that the map belongs to.

    Raises:
        UserError: the image cannot be read.
    """
    try:
        image = nibabel.load(path)
        values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32))
    except (OSError, ImageFileError) as error:
        raise UserError(str(path), f"expected a map (.nii.gz): {error}; make the map again") from None
    if not values.any():
        return None
    place = apply_affine(image.affine, np.unravel_index(np.abs(values).argmax(), values.shape))
    peak = ", ".join(f"{axis} {round(value)}" for axis, value in zip("xyz", place, strict=True))
    light, dark = (_drawn(image, values, dark=dark) for dark in (False, True))
    width, height = (round(DPI * inches) for inches in SIZE)
    alt = f"Where the information is in {dataset}: a glass brain from the side, the back and above; the largest value is at {peak} mm."
    return Figure(light, alt, width, height, dark)


def map_caption(path: Path) -> str:
    """Describe what the map shows, and how well it agrees with what is known about the brain.

    Args:
        path: `D_information.json` (docs/data.md).

    Raises:
        UserError: the file is no description of a map.
    """
    try:
        about = json.loads(path.read_text())
        measured = f"{about['n_subjects']} subjects, {about['n_trials']} trials; {about['space']}"
        drawn = f"The strongest {SHOWN:.0%} of the voxels are drawn".replace("%", " %")
        checks = [_agreement(name, found) for name, found in about["checks"].items() if None not in found.values()]
        caption = f"{about['what']} ({measured}). {drawn}. Method: {about['method']}. Unit: {about['units']}."
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(str(path), f"expected the description of a map (docs/report.md): {error!r}; make the map again") from None
    return caption + (f" Agreement with {'; '.join(checks)}." if checks else "")


def _agreement(name: str, found: dict[str, float]) -> str:
    mass, voxels = (f"{100 * found[key]:.0f} %" for key in ("share_of_mass", "share_of_voxels"))
    return f"{name.replace('_', ' ')}: {mass} of the positive values in {voxels} of the voxels, area under the ROC {found['roc_auc']:.2f}"


def _drawn(image: nibabel.Nifti1Image, values: Floats, *, dark: bool) -> str:
    from nilearn.plotting import plot_glass_brain  # slow to import

    signed = bool((values < 0).any())
    colours = ("berlin" if dark else "RdBu_r") if signed else ("inferno" if dark else "YlGnBu")
    shown = float(np.quantile(np.abs(values[values != 0]), 1 - SHOWN))
    figure = plt.figure(figsize=SIZE)
    options = {"display_mode": "ortho", "colorbar": True, "cmap": colours, "black_bg": dark, "plot_abs": not signed, "threshold": shown}
    plot_glass_brain(image, figure=figure, **options)
    buffer = BytesIO()
    figure.savefig(buffer, format="webp", dpi=DPI, facecolor="#141414" if dark else "white", pil_kwargs={"quality": 80})
    plt.close(figure)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
