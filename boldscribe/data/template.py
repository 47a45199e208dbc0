"""Embedded template, MNI152NLin2009aSym (nilearn's copy), and the output grid in its space.

nilearn's images are exactly left-right symmetric: they are the symmetric 2009a template, not fMRIPrep's MNI152NLin2009cAsym, and
outputs are labelled accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from numpy.typing import NDArray
from scipy import ndimage

from boldscribe.data.images import apply_affine

SPACE = "MNI152NLin2009aSym"
# field of view of TemplateFlow's MNI152NLin2009cAsym at 2 mm, on which fMRIPrep writes `res-2`: outer corner and size (mm)
CORNER = (-97.5, -133.5, -79.5)
EXTENT = (194.0, 230.0, 194.0)


def output_grid(resolution: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and affine (mm) of the grid of `resolution` mm in fMRIPrep's `res-2` field of view.

    2 mm gives exactly fMRIPrep's grid: 97 x 115 x 97 voxels, the first centred at (-96.5, -132.5, -78.5).
    """
    n = [int(np.ceil(size / resolution)) for size in EXTENT]
    affine = np.diag([resolution, resolution, resolution, 1.0])
    affine[:3, 3] = np.add(CORNER, resolution / 2)
    return (n[0], n[1], n[2]), affine


@dataclass(frozen=True)
class Template:
    """Skull-stripped T1w, brain mask, and tissue probabilities, all on one grid.

    Inside the mask, `wm`, `csf` and grey matter sum to 1: the template has no CSF map, so CSF is the remainder.
    """

    affine: NDArray[np.float64]
    t1w: NDArray[np.float32]
    mask: NDArray[np.bool_]
    wm: NDArray[np.float32]
    csf: NDArray[np.float32]


def load_template(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Template:
    """Resample the template (linearly) to a grid."""

    def on_grid(image: nib.Nifti1Image) -> NDArray[np.float32]:
        index = apply_affine(np.linalg.inv(image.affine) @ affine, np.indices(shape).reshape(3, -1))
        values = ndimage.map_coordinates(image.get_fdata(dtype=np.float32), index, order=1, output=np.float32)
        return np.asarray(values.reshape(shape))

    mask = on_grid(load_mni152_brain_mask(resolution=1))
    gm, wm = on_grid(load_mni152_gm_template(resolution=1)), on_grid(load_mni152_wm_template(resolution=1))
    return Template(affine, on_grid(load_mni152_template(resolution=1)), mask > 0.5, wm, np.clip(mask - gm - wm, 0, 1))


def template_files() -> list[Path]:
    """Return the files of the template, inside nilearn's package."""
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    return [folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("t1", "gm", "wm")]
