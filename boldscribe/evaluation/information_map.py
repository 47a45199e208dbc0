"""Map of the decoded information: how much each voxel adds to the match of a test trial with its own clip.

The match is the cosine of fMRI and video embedding that Stage I contrasts: that of the own clip minus the mean of the subject's other
test clips. Expected gradients (Erion et al. 2021, Nature Machine Intelligence 3:620) attribute it to voxels: gradient x difference to
another trial of the subject, at random points between the two. The map therefore sums to the margin by which the own trial matches
better than others. A voxel that does not tell trials apart has 0 on average, however steep the gradient: weights fitted to the noise
of training trials do not agree with the noise of test trials.

Gradient x input would not work: the tokenizer normalises each window, which makes the match nearly independent of its scale, and by
Euler's theorem the products of such a function sum to 0. Occlusion would give the encoder windows unlike any that it was trained on, at
a resolution of centimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.data.batches import Batches
from boldscribe.data.images import save_image
from boldscribe.data.placement import voxels_path
from boldscribe.data.windows import Series, Windows
from boldscribe.evaluation.retrieval import labelled
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array, write_json
from boldscribe.machinery.reproducible import generator
from boldscribe.models.device import autocast, best_device
from boldscribe.models.encoding import trials_of_role
from boldscribe.models.fmri_encoder import load_encoder
from boldscribe.simulation.phantom import tissues_at, world_points
from boldscribe.simulation.truth import responsive_voxels
from boldscribe.stimuli.features import video_tokens

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

OTHERS = 8  # trials that each trial is compared with; averaging over trials does the rest
BATCH = 16
WHAT = "What each voxel adds to the match of a test trial's fMRI tokens with its own clip's video tokens; mean over trials, then subjects"
UNITS = "cosine: own clip minus mean of the other clips; the voxels sum to the match of the trial minus that of other trials with its clip"
METHOD = "expected gradients through the encoder of Stage I (Erion et al. 2021), summed over the volumes of a window"


def write_information_map(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    labels: Sequence[Path],
    features: Sequence[Path],
    stage1_dir: Path,
    image: Path,
    about: Path,
) -> None:
    """Write the map of a data set in the grid of its series (NIfTI, float32), and its description with plausibility checks (JSON).

    Args:
        config: the experiment.
        dataset: its label.
        series, trials, labels: of the target subjects.
        features: frozen video features of the test clips.
        stage1_dir: the trained encoder.
        image: `D_information.nii.gz`; 0 outside the brain, and outside the tokenizer's grid.
        about: JSON with method, units, numbers of trials, each subject's sum of the map and the value that it must sum to. Its `checks`
            are the `agreement` with grey matter, and with the simulator's truth if there is one.

    Raises:
        UserError: trials without a label, or a subject whose test shows only one clip.
    """
    subjects = list(config.datasets[dataset].validation_subjects)
    known = pd.concat([pd.read_parquet(p) for p in labels])
    table = labelled(trials_of_role("test", trials), known, subjects, trials[0].parent)
    device = best_device()
    windows = Windows(series, table, config.tokenizer.grid)
    batches, encoder = Batches(windows, device), load_encoder(config, stage1_dir).to(device)
    header = load_array(series[0])[1]
    shape, affine = tuple(header["grid_shape"]), np.array(header["affine"])

    def encode(bold_BTXYZ: Tensor) -> Tensor:
        with autocast(device, config.training.precision):
            z_BLD = encoder(bold_BTXYZ)
        return normalize(z_BLD.float().mean(1), dim=1)

    maps, measured = np.zeros((len(subjects), int(np.prod(shape)))), np.zeros(int(np.prod(shape)), bool)
    described: dict[str, Any] = {}
    for map_V, subject in zip(maps, subjects, strict=True):
        rows = torch.from_numpy(np.flatnonzero(windows.trials["subject"] == subject))
        clips, own_N = np.unique(windows.trials["stim_file"].to_numpy(str)[rows.numpy()], return_inverse=True)
        if len(clips) < 2:
            raise UserError(f"sub-{subject}", f"stim_file: found {len(clips)} test clip, expected at least 2; correct test_runs")
        target_ND = targets(video_tokens(config, features, clips.tolist(), device), own_N)
        rng = generator(config.seed, "information map", dataset, subject)
        others_NS = other_trials(own_N, OTHERS, rng)
        share_N, match = expected_gradients(encode, partial(_load, batches, rows), target_ND, others_NS, rng)
        inside_V = to_template(share_N, windows.series[subject], map_V)
        measured[inside_V] = True
        described[subject] = {"trials": len(rows), "clips": len(clips), "sum": share_N.sum(), "must_sum_to": match}
    mean_V = maps.mean(0)
    space = str(header["space"])
    save_image(image, mean_V.reshape(shape).astype(np.float32), affine, code="mni" if space.startswith("MNI") else "aligned")
    truths = known_regions(config, dataset, space, shape, affine)
    write_json(
        about,
        {
            "what": WHAT,
            "units": UNITS,
            "method": METHOD,
            "dataset": dataset,
            "simulated": config.datasets[dataset].simulated is not None,
            "space": space,
            "others_per_trial": OTHERS,
            "subjects": described,
            "n_subjects": len(subjects),
            "n_trials": len(table),
            "sum": mean_V.sum(),
            "checks": {name: agreement(mean_V[measured], inside[measured]) for name, inside in truths.items()},
        },
    )


def _load(batches: Batches, rows: Tensor, indices: Tensor) -> Tensor:
    """Load the windows of some of a subject's trials; `rows` are all of the subject's rows."""
    return batches.load(rows[indices])


def targets(x_CLD: Tensor, own_N: NDArray[np.integer]) -> Tensor:
    """Return the vectors (N, d) whose product with an fMRI embedding is the match: own clip's video embedding minus mean of the others'."""
    x_CD = normalize(x_CLD.mean(1), dim=1)
    own = torch.from_numpy(own_N).to(x_CD.device)
    return x_CD[own] - (x_CD.sum(0) - x_CD[own]) / (len(x_CD) - 1)


def other_trials(own_N: NDArray[np.integer], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `n` random trials of other clips for each trial: (N, n)."""
    return np.stack([rng.choice(np.flatnonzero(own_N != own), n) for own in own_N])


def expected_gradients(
    encode: Callable[[Tensor], Tensor],
    load: Callable[[Tensor], Tensor],
    target_ND: Tensor,
    others_NS: NDArray[np.integer],
    rng: np.random.Generator,
) -> tuple[Floats, float]:
    """Estimate the share of each voxel in the match, averaged over trials.

    Args:
        encode: maps windows (B, T, X, Y, Z) to embeddings (B, d).
        load: maps indices of trials to their windows.
        target_ND: the match is its product with the embedding.
        others_NS: the trials that each is compared with.
        rng: draws the points between the two, one in each of S equal sections of the path.

    Returns:
        shares (X · Y · Z), and their sum up to sampling error: match of the trials minus match of the others with the same targets.
    """
    n, n_others = others_NS.shape
    own, other = torch.arange(n).repeat_interleave(n_others), torch.from_numpy(others_NS).flatten()
    way = torch.from_numpy((np.arange(n_others) + rng.random((n, n_others))) / n_others).float().flatten()
    with torch.inference_mode():
        z_ND = torch.cat([encode(load(rows)) for rows in torch.arange(n).split(BATCH)])
        match = ((z_ND[own] - z_ND[other]) * target_ND[own]).sum(1).mean().item()
    total: Floats = np.zeros(())
    for rows in tqdm(torch.arange(len(own)).split(BATCH), "information map", mininterval=5):
        start_BTXYZ = load(other[rows])
        difference_BTXYZ = load(own[rows]) - start_BTXYZ
        at = way[rows].to(start_BTXYZ.device).view(-1, 1, 1, 1, 1)
        between_BTXYZ = (start_BTXYZ + at * difference_BTXYZ).requires_grad_()
        (gradient_BTXYZ,) = torch.autograd.grad((encode(between_BTXYZ) * target_ND[own[rows]]).sum(), between_BTXYZ)
        total = total + (gradient_BTXYZ * difference_BTXYZ).sum((0, 1)).double().cpu().numpy()
    return total.ravel() / len(own), match


def to_template(share_N: Floats, series: Series, map_V: Floats) -> NDArray[np.integer]:
    """Copy shares from the tokenizer's grid to the series' grid (flat); return the indices that are filled."""
    inside_V: NDArray[np.integer] = np.load(voxels_path(series.path), allow_pickle=False)[series.inside]
    map_V[inside_V] = share_N[series.place]
    return inside_V


def known_regions(config: Config, dataset: str, space: str, shape: Sequence[int], affine: Floats) -> dict[str, Bools]:
    """Return voxels (flat) that should carry the information, in template space: grey matter, and patches planted by a simulation."""
    if not space.startswith("MNI152"):
        return {}
    grid = (int(shape[0]), int(shape[1]), int(shape[2]))
    regions = {"grey_matter": tissues_at(world_points(grid, affine), grid).gm.ravel() > 0.5}
    if config.datasets[dataset].simulated:
        regions["planted_patches"] = responsive_voxels(config, grid, affine).ravel()
    return regions


def agreement(map_V: Floats, inside_V: Bools) -> dict[str, float | None]:
    """Check whether a map lies where it should: a region's share of positive mass and of voxels, and the area under the ROC curve.

    The area is the probability that a voxel inside has a higher value than one outside: 1/2 for a map unrelated to the region.
    """
    positive_V, n = np.maximum(map_V, 0), int(inside_V.sum())
    both = 0 < n < len(map_V)
    area = mannwhitneyu(map_V[inside_V], map_V[~inside_V]).statistic / (n * (len(map_V) - n)) if both else None
    mass = positive_V.sum()
    return {
        "share_of_mass": float(positive_V[inside_V].sum() / mass) if mass else None,
        "share_of_voxels": n / len(map_V) if len(map_V) else None,
        "roc_auc": None if area is None else float(area),
    }
