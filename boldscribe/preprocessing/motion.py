"""Head motion: rigid realignment of every volume to a reference by least squares.

Gauss-Newton with inverse-compositional updates (Baker & Matthews 2004): the image gradients are computed once, on the reference, so
that a volume costs only a few interpolations. Friston et al. 1995 describe the cost function. SciPy is all it needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from boldscribe.data.images import apply_affine

Affine = NDArray[np.float64]
Volume = NDArray[np.float32]

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS = 50.0
# converts mm and rad to the displacement (mm) of a point at that radius
PER_PARAMETER = np.array([1.0] * 3 + [HEAD_RADIUS] * 3)

SMOOTHING_FWHM = 5.0
SAMPLE_DISTANCE = 4.0
BORDER = 2
ITERATIONS = 12
TOLERANCE = 1e-3
# one mode for both spline coefficients and sampling: mixing modes biases the estimate near the edge of the field of view
MODE = "mirror"


def rigid(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> Affine:
    """Return the rigid transform of world coordinates (mm): rotation about `centre`, then translation.

    Args:
        parameters: (6,) trans_x, trans_y, trans_z (mm), rot_x, rot_y, rot_z (rad, extrinsic).
        centre: (3,) mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", parameters[3:]).as_matrix()
    matrix[:3, 3] = parameters[:3] + centre - matrix[:3, :3] @ centre
    return matrix


def rigid_parameters(matrix: Affine, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parameters of a rigid transform; the inverse of `rigid`."""
    translation = matrix[:3, :3] @ centre + matrix[:3, 3] - centre
    return np.concatenate([translation, Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz")])


def head_mask(volume: Volume) -> NDArray[np.bool_]:
    """Return a rough mask: the largest connected component of voxels above a third of the 98th percentile."""
    labels, _ = ndimage.label(volume > np.percentile(volume, 98) / 3)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


class Realigner:
    """Registration of volumes to one reference on the same grid.

    Args:
        reference: (X, Y, Z).
        affine: voxel to world (mm) of the grid.
    """

    def __init__(self, reference: Volume, affine: Affine) -> None:
        self.affine, self.inverse_affine = affine, np.linalg.inv(affine)
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        self.sigma = SMOOTHING_FWHM / np.sqrt(8 * np.log(2)) / zooms
        coefficients = self._spline(reference)

        mask = np.zeros(reference.shape, bool)
        # a slab of few slices cannot spare a full border
        inner = tuple(slice(b, n - b) for n in reference.shape for b in [min(BORDER, (n - 1) // 4)])
        mask[inner] = head_mask(reference)[inner]
        step = np.maximum(1, np.round(SAMPLE_DISTANCE / zooms).astype(int))
        lattice = np.zeros_like(mask)
        lattice[tuple(slice(None, None, s) for s in step)] = True
        index_3N = np.stack(np.nonzero(mask & lattice)).astype(float)
        self.points_3N = apply_affine(affine, index_3N)
        self.centre = self.points_3N.mean(axis=1)

        values_N = self._sample(coefficients, index_3N)
        self.values_N = values_N
        gradient_3N = np.linalg.inv(affine[:3, :3]).T @ self._gradient(coefficients, index_3N)
        rotation_3N = np.cross((self.points_3N - self.centre[:, None]).T, gradient_3N.T).T
        # the seventh column absorbs a change in overall intensity
        self.solve_7N = np.linalg.pinv(np.vstack([gradient_3N, rotation_3N, values_N]).T)

    def _spline(self, volume: Volume) -> Volume:
        smoothed = ndimage.gaussian_filter(volume, self.sigma, mode=MODE)
        return np.asarray(ndimage.spline_filter(smoothed, output=np.float32, mode=MODE))

    def _sample(self, coefficients: Volume, index_3N: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.map_coordinates(coefficients, index_3N, order=3, mode=MODE, prefilter=False, output=np.float64))

    def _gradient(self, coefficients: Volume, index_3N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return central differences of the spline, per voxel."""
        half = 0.1
        steps = half * np.eye(3)[:, :, None]
        return np.stack([(self._sample(coefficients, index_3N + s) - self._sample(coefficients, index_3N - s)) / (2 * half) for s in steps])

    def register(self, volume: Volume, start: Affine) -> Affine:
        """Estimate the transform from reference to volume (world to world, mm), starting from another volume's."""
        coefficients = self._spline(volume)
        matrix = best = start
        smallest, update = np.inf, np.zeros(6)
        for _ in range(ITERATIONS):
            sampled_N = self._sample(coefficients, apply_affine(self.inverse_affine @ matrix, self.points_3N))
            misfit = self._misfit(sampled_N)
            if misfit < smallest:
                smallest, best = misfit, matrix
                update = (self.solve_7N @ (sampled_N - self.values_N))[:6]
            else:
                # volumes before the steady state have a different contrast: their steps may overshoot or diverge
                update = update / 2
            matrix = best @ np.linalg.inv(rigid(update, self.centre))
            if np.abs(update * PER_PARAMETER).max() < TOLERANCE:
                return matrix
        return best

    def _misfit(self, sampled_N: NDArray[np.float64]) -> float:
        """Return the share of a volume's variance that the reference does not explain."""
        centred_N, reference_N = sampled_N - sampled_N.mean(), self.values_N - self.values_N.mean()
        power = float(centred_N @ centred_N) * float(reference_N @ reference_N)
        return 1 - float(centred_N @ reference_N) * abs(float(centred_N @ reference_N)) / power if power > 0 else np.inf


def realign(bold_XYZT: Volume, affine: Affine, description: str = "motion") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the motion of a run relative to its middle volume.

    Args:
        bold_XYZT: the run.
        affine: voxel to world (mm).
        description: for the progress bar.

    Returns:
        matrices (T, 4, 4), world coordinates of the reference to those of the volume; and parameters (T, 6): trans_x, trans_y,
        trans_z (mm), rot_x, rot_y, rot_z (rad), about the centre of the head.
    """
    n_volumes = bold_XYZT.shape[3]
    middle = n_volumes // 2
    realigner = Realigner(bold_XYZT[..., middle], affine)
    matrices = np.tile(np.eye(4), (n_volumes, 1, 1))
    with tqdm(total=n_volumes, desc=description, mininterval=5) as bar:
        # outwards from the reference: each volume starts from its neighbour's estimate
        for volumes, neighbour in ((range(middle, n_volumes), -1), (range(middle - 1, -1, -1), 1)):
            for t in volumes:
                start = np.eye(4) if t == middle else matrices[t + neighbour]
                matrices[t] = realigner.register(bold_XYZT[..., t], start)
                bar.update()
    return matrices, np.stack([rigid_parameters(m, realigner.centre) for m in matrices])
