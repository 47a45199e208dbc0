"""Rigid coregistration of the BOLD reference and the T1w image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from boldscribe.preprocessing.itk import affine_matrix, ants, to_ants
from boldscribe.preprocessing.motion import head_mask


def coregister(
    boldref: NDArray[np.float32],
    bold_affine: NDArray[np.float64],
    t1w: NDArray[np.float32],
    t1w_mask: NDArray[np.bool_],
    t1w_affine: NDArray[np.float64],
    prefix: str,
) -> NDArray[np.float64]:
    """Register rigidly by mutual information (Mattes), starting from the positions in the scanner.

    Boundary-based registration would need surfaces, which this workflow does not reconstruct.

    Args:
        boldref: (X, Y, Z) mean of realigned volumes.
        t1w: (X', Y', Z') bias-corrected.
        t1w_mask: brain of the T1w image.
        prefix: of the transform files.

    Returns:
        (4, 4) world coordinates of the T1w image to those of the BOLD reference (mm).
    """
    wide = ndimage.binary_dilation(t1w_mask, iterations=max(1, round(4 / float(np.linalg.norm(t1w_affine[:3, 0])))))
    head = head_mask(boldref)
    corrected = ants.n4_bias_field_correction(
        to_ants(boldref, bold_affine), mask=to_ants(head, bold_affine), shrink_factor=2, convergence={"iters": [20, 20], "tol": 1e-4}
    )
    brain = to_ants(np.where(t1w_mask, t1w, 0), t1w_affine)
    result = ants.registration(
        brain,
        corrected,
        "Rigid",
        initial_transform="Identity",
        mask=to_ants(wide, t1w_affine),
        outprefix=f"{prefix}_coregistration_",
        aff_random_sampling_rate=0.2,
        aff_iterations=(200, 100),
        aff_shrink_factors=(3, 2),
        aff_smoothing_sigmas=(1, 0),
    )
    return affine_matrix(result["fwdtransforms"][0])
