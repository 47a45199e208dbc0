"""Responses of the simulated cortex: patches for the features of a scene, with a common layout and individual deviations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nilearn.glm.first_level import compute_regressor
from numpy.typing import NDArray

from boldscribe.simulation.phantom import grey_matter_points
from boldscribe.simulation.scenes import VOCABULARY, Scene

PATCHES_PER_FEATURE = 10
PATCH_SIGMA = 6.0  # mm: patches of 14 mm full width at half maximum
DISPLACEMENT = 2.5  # mm, SD of a subject's patches about the common layout
GAIN_SPREAD = 0.25  # SD of the logarithm of a subject's gain per patch
PEAK_RESPONSE = 0.03  # signal change at a patch's centre for one feature at snr 1, relative to the baseline
HRF_DELAY = 0.5  # s, SD of a subject's delay beyond the canonical one
FEATURES = [(field, value) for field, values in VOCABULARY.items() for value in values]


def feature_matrix(scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Encode scenes as one-hot features: (scenes, features)."""
    return np.array([[float(getattr(s, field) == value) for field, value in FEATURES] for s in scenes])


def common_layout(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the centres of the patches in template coordinates (mm), spread over the grey matter: (features, patches, 3)."""
    points = grey_matter_points()
    return points[rng.choice(len(points), (len(FEATURES), PATCHES_PER_FEATURE), replace=False)]


def subject_maps(
    layout: NDArray[np.float64],
    template_points: NDArray[np.float64],
    gm: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw a subject's response to each feature at each point: the common layout, displaced, with individual gains.

    Args:
        layout: (features, patches, 3), mm.
        template_points: (points, 3), mm.
        gm: share of grey matter at the points; only grey matter responds.
        rng: draws the subject's deviations.

    Returns:
        (features, points), 1 at the centre of a patch of gain 1.
    """
    centres = layout + rng.normal(0, DISPLACEMENT, layout.shape)
    return patches(centres, np.exp(rng.normal(0, GAIN_SPREAD, layout.shape[:2])), template_points, gm)


def patches(
    centres: NDArray[np.float64], gains: NDArray[np.float64], template_points: NDArray[np.float64], gm: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compute responses to each feature at each point, (features, points), of patches at `centres` (features, patches, 3) with `gains`."""
    maps = np.zeros((len(centres), len(template_points)), np.float32)
    for feature in range(len(centres)):
        for centre, gain in zip(centres[feature], gains[feature], strict=True):
            distance2 = ((template_points - centre) ** 2).sum(1)
            maps[feature] += gain * np.exp(-distance2 / (2 * PATCH_SIGMA**2))
    return maps * gm


def response_delay(rng: np.random.Generator) -> float:
    """Draw a subject's delay beyond the canonical HRF (s)."""
    return float(np.clip(rng.normal(0, HRF_DELAY), -1, 1))


def time_courses(
    features: NDArray[np.float64],
    onsets: NDArray[np.float64],
    duration: float,
    frame_times: NDArray[np.float64],
    delay: float,
) -> NDArray[np.float64]:
    """Convolve the clips' features with the canonical HRF (SPM's), scaled to a peak of 1 for an isolated clip: (volumes, features).

    Args:
        features: (clips, features).
        onsets: (clips), s from the run's start.
        duration: of a clip (s).
        frame_times: acquisition time of each volume (s).
        delay: the subject's, added to the HRF's (s).
    """

    def convolved(amplitudes: NDArray[np.float64], at: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        condition = np.array([at + delay, np.full(len(at), duration), amplitudes])
        return compute_regressor(condition, "spm", times)[0][:, 0]

    peak = convolved(np.ones(1), np.zeros(1), np.arange(0, 30, 0.1)).max()
    return np.stack([convolved(column, onsets, frame_times) for column in features.T], axis=1) / peak
