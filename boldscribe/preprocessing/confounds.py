"""Confound time series under fMRIPrep's names, so that nilearn's `load_confounds` can read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.data.drift import cosines
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing.motion import MOTION, PER_PARAMETER

CERTAIN_TISSUE = 0.9
N_COMPONENTS = 5
OUTLIER_DISPLACEMENT = 0.5
OUTLIER_DVARS = 1.5


@dataclass(frozen=True)
class Tissues:
    """Masks of each compartment over the rows of the series: (V,) booleans."""

    brain: NDArray[np.bool_]
    white_matter: NDArray[np.bool_]
    csf: NDArray[np.bool_]

    def of_brain(self) -> Tissues:
        """Return the same compartments over the rows of the brain's series."""
        return Tissues(*(rows[self.brain] for rows in (self.brain, self.white_matter, self.csf)))


def certain_tissues(brain: NDArray[np.bool_], white_matter: NDArray[np.float32], csf: NDArray[np.float32], name: str) -> Tissues:
    """Select white-matter and CSF voxels with a probability above 0.9, by the subject's or the template's maps.

    Raises:
        UserError: a compartment has no voxel.
    """
    tissues = Tissues(brain, brain & (white_matter > CERTAIN_TISSUE), brain & (csf > CERTAIN_TISSUE))
    for tissue, voxels in (("white matter", tissues.white_matter), ("CSF", tissues.csf)):
        if not voxels.any():
            raise UserError(
                name,
                f"{tissue}: found no voxel with a probability above {CERTAIN_TISSUE} in the field of view, expected some; "
                "check the image's coverage, or choose a finer preprocessing.resolution",
            )
    return tissues


def framewise_displacement(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the absolute changes of the six parameters, rotations on a 50 mm sphere (Power et al. 2012); (T,) mm, NaN first.

    Args:
        parameters: (T, 6) mm and rad.
    """
    change = np.abs(np.diff(parameters, axis=0)) * PER_PARAMETER
    return np.concatenate([[np.nan], change.sum(axis=1)])


def dvars(series_VT: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the root mean square change between volumes, plain and standardised, (T,) each, NaN first.

    It is standardised by its expectation given the voxels' robust SD and lag-1 autocorrelation (Nichols 2013), as in nipype's
    `compute_dvars`, with intensities scaled to a median of 1000.
    """
    scaled = series_VT / np.median(series_VT) * 1000
    quartiles = np.percentile(scaled, [25, 75], axis=1, method="lower")
    robust_sd = (quartiles[1] - quartiles[0]) / 1.349
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    variance = np.einsum("vt,vt->v", centred, centred)
    ar1 = np.einsum("vt,vt->v", centred[:, 1:], centred[:, :-1]) / np.where(variance > 0, variance, 1)
    expected = float((np.sqrt(2 * (1 - ar1)) * robust_sd).mean())
    plain = np.sqrt(np.square(np.diff(scaled, axis=1)).mean(axis=0, dtype=np.float64))
    return np.concatenate([[np.nan], plain]), np.concatenate([[np.nan], plain / expected if expected > 0 else plain * 0])


def anatomical_components(
    series_VT: NDArray[np.float32],
    drift_TK: NDArray[np.float64],
) -> tuple[NDArray[np.float64], list[dict[str, Any]]]:
    """Compute aCompCor (Behzadi et al. 2007): leading components of white matter and CSF combined, after high-pass filtering.

    Args:
        series_VT: the voxels of both compartments.
        drift_TK: `cosines`.

    Returns:
        (T, 5) unit vectors, and per component the metadata that `load_confounds` requires.
    """
    design = np.column_stack([np.ones(series_VT.shape[1]), drift_TK])
    q, _ = np.linalg.qr(design)
    filtered = series_VT.T - q @ (q.T @ series_VT.T)
    sd = filtered.std(axis=0)
    filtered = filtered[:, sd > 0] / sd[sd > 0]
    # the Gram matrix is (T, T), regardless of the number of voxels
    eigenvalues, vectors = np.linalg.eigh(filtered @ filtered.T)
    n = min(N_COMPONENTS, filtered.shape[1], len(eigenvalues) - design.shape[1])
    order = np.argsort(eigenvalues)[::-1][:n]
    components = vectors[:, order]
    # the sign of an eigenvector is arbitrary: fix it by the largest element
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(n)])
    share = np.clip(eigenvalues[order], 0, None) / eigenvalues.sum()
    return components, [
        {
            "Method": "aCompCor",
            "Mask": "combined",
            "Retained": True,
            "SingularValue": float(np.sqrt(max(eigenvalues[i], 0))),
            "VarianceExplained": float(s),
            "CumulativeVarianceExplained": float(c),
        }
        for i, s, c in zip(order, share, np.cumsum(share), strict=True)
    ]


def confounds_table(
    series_VT: NDArray[np.float32],
    tissues: Tissues,
    parameters: NDArray[np.float64],
    tr: float,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Compute all confounds of a run.

    Args:
        series_VT: preprocessed BOLD of all voxels.
        tissues: compartments.
        parameters: (T, 6) motion (mm, rad).
        tr: repetition time (s).

    Returns:
        the table of `_desc-confounds_timeseries.tsv`, and the content of its JSON.
    """
    both = tissues.white_matter | tissues.csf
    signals = {
        "global_signal": series_VT[tissues.brain].mean(axis=0, dtype=np.float64),
        "csf": series_VT[tissues.csf].mean(axis=0, dtype=np.float64),
        "white_matter": series_VT[tissues.white_matter].mean(axis=0, dtype=np.float64),
        "csf_wm": series_VT[both].mean(axis=0, dtype=np.float64),
    }
    columns: dict[str, NDArray[np.float64]] = {}
    for name, signal in {**signals, **dict(zip(MOTION, parameters.T, strict=True))}.items():
        derivative = np.concatenate([[np.nan], np.diff(signal)])
        columns |= {name: signal, f"{name}_derivative1": derivative}
        columns |= {f"{name}_power2": signal**2, f"{name}_derivative1_power2": derivative**2}
    displacement = framewise_displacement(parameters)
    plain, standardised = dvars(series_VT[tissues.brain])
    columns |= {"framewise_displacement": displacement, "dvars": plain, "std_dvars": standardised}
    drift = cosines(len(parameters), tr)
    columns |= {f"cosine{i:02d}": column for i, column in enumerate(drift.T)}
    components, component_metadata = anatomical_components(series_VT[both], drift)
    columns |= {f"a_comp_cor_{i:02d}": column for i, column in enumerate(components.T)}
    outliers = np.flatnonzero((displacement > OUTLIER_DISPLACEMENT) | (standardised > OUTLIER_DVARS))
    columns |= {f"motion_outlier{i:02d}": np.eye(len(parameters))[t] for i, t in enumerate(outliers)}
    metadata = {f"a_comp_cor_{i:02d}": content for i, content in enumerate(component_metadata)}
    for name in signals:
        metadata[name] = {"Method": "Mean over voxels of the template's tissue map above 0.9, in template space"}
    return pd.DataFrame(columns), metadata
