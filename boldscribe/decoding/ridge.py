"""Ridge regression from BOLD to video tokens, decoded by the same LLM: shows what the encoder and its training add.

A window has many more features (volumes x voxels) than there are trials, so the regression is solved in its dual form, via the
trials' Gram matrix. The matrix is summed over blocks of voxels, so that only one block of the windows is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, GroupKFold
from tqdm import tqdm

from boldscribe.data.placement import voxels_path
from boldscribe.data.presentations import mean_windows
from boldscribe.decoding.brain import generate, rows_by_subject
from boldscribe.decoding.task import Task
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array
from boldscribe.models.device import best_device
from boldscribe.stimuli.features import video_tokens
from boldscribe.training.source import source_trials

VOXELS = 2000  # per block: 500 MB of windows of 20,000 trials
ALPHAS = np.logspace(-3, 3, 13)  # in units of a trial's mean square, the mean of the Gram matrix's diagonal
FOLDS = 5

Matrix = NDArray[np.float64]


def linear(task: Task) -> list[str]:
    """Decode each trial from the video tokens that a ridge regression, fitted on the source subjects, predicts from its window."""
    source = source_trials(task.config, task.dataset, task.files["source_trials"], task.files["source_labels"])
    x_NLD = video_tokens(task.config, task.files["source_features"], source["stim_file"].tolist(), best_device()).cpu().numpy()
    trials = pd.concat([source, task.test], ignore_index=True)
    gram_NN = gram_matrix([*task.files["source_series"], *task.files["series"]], trials)
    n = len(source)
    predicted = predict(gram_NN[:n, :n], gram_NN[n:, :n], x_NLD.reshape(n, -1), x_NLD.mean(1), folds_of(source))
    for rows in rows_by_subject(task.test).values():
        predicted[rows] = with_moments_of(x_NLD.reshape(n, -1), predicted[rows])
    return generate(task, predicted.reshape(len(predicted), *x_NLD.shape[1:]).astype(np.float32))


def gram_matrix(series: Sequence[Path], trials: pd.DataFrame) -> Matrix:
    """Compute the mean product, over all features, of each pair of windows, with features z-scored over a subject's trials: (N, N).

    Raises:
        UserError: series in different grids, or without a common voxel.
    """
    device = best_device()
    gram_NN = torch.zeros(len(trials), len(trials), device=device)
    n_features = 0
    for block_NF in blocks(series, trials):
        x_NF = torch.from_numpy(block_NF).to(device)
        gram_NN += x_NF @ x_NF.T
        n_features += block_NF.shape[1]
    return (gram_NN.double() / n_features).cpu().numpy()


def blocks(series: Sequence[Path], trials: pd.DataFrame) -> Iterator[NDArray[np.float32]]:
    """Yield all trials' windows, z-scored per subject and feature, in blocks of common voxels: (N, volumes x voxels)."""
    arrays, columns = common_voxels(series)
    n_volumes = int(trials["n_volumes"].iloc[0])
    n_voxels = len(next(iter(columns.values())))
    of_subjects = {subject: (rows, trials.iloc[rows]) for subject, rows in rows_by_subject(trials).items()}
    for start in tqdm(range(0, n_voxels, VOXELS), "voxel blocks", mininterval=5):
        size = min(VOXELS, n_voxels - start)
        block_NF = np.empty((len(trials), n_volumes * size), np.float32)
        for subject, (rows, own) in of_subjects.items():
            wanted = columns[subject][start : start + size]
            first = wanted.min()  # read one contiguous range of the file, then pick from it
            bold_TV = np.asarray(arrays[subject][:, first : wanted.max() + 1], np.float32)[:, wanted - first]
            window_NF = mean_windows(bold_TV, own).reshape(len(rows), -1)
            window_NF -= window_NF.mean(0)
            deviation = window_NF.std(0)
            block_NF[rows] = window_NF / np.where(deviation > 0, deviation, 1)
        yield block_NF


def common_voxels(series: Sequence[Path]) -> tuple[dict[str, NDArray[np.float16]], dict[str, NDArray[np.int64]]]:
    """Return each subject's series, memory-mapped, and its columns of the voxels that all subjects have, in the same order.

    Raises:
        UserError: series in different grids, or without a common voxel.
    """
    arrays, voxels, grids = {}, {}, {}
    for path in series:
        array, header = load_array(path)
        arrays[header["subject"]] = array
        voxels[header["subject"]] = np.load(voxels_path(path), allow_pickle=False)
        grids[str(path)] = (header["affine"], header["grid_shape"])
    if len({str(grid) for grid in grids.values()}) > 1:
        raise UserError(
            next(iter(grids)),
            f"affine or grid_shape differs from that of {list(grids)[-1]}; preprocess all subjects in the same space and resolution",
        )
    place, count = np.unique(np.concatenate(list(voxels.values())), return_counts=True)
    common = place[count == len(voxels)]
    if not len(common):
        raise UserError(", ".join(grids), "found no voxel common to all subjects; preprocess all subjects in the same space and resolution")
    order = {subject: np.argsort(own, kind="stable") for subject, own in voxels.items()}
    return arrays, {s: order[s][np.searchsorted(own, common, sorter=order[s])] for s, own in voxels.items()}


def folds_of(source: pd.DataFrame) -> NDArray[np.int64]:
    """Return the cross-validation group of each source trial: its subject, or its run if there is only one subject."""
    return pd.factorize(source["subject"] if source["subject"].nunique() > 1 else source["run"])[0]


def predict(
    gram_NN: Matrix, target_MN: Matrix, y_NF: NDArray[np.float32], choosing_NF: NDArray[np.float32], groups: NDArray[np.int64]
) -> Matrix:
    """Fit a ridge regression in its dual form on N source windows, and predict the outputs of M target windows.

    alpha is chosen by cross-validation over groups, on a smaller set of outputs: the mean of a clip's tokens.

    Args:
        gram_NN: products of the source windows.
        target_MN: products of target and source windows.
        y_NF: outputs of the source windows.
        choosing_NF: outputs on which alpha is chosen.
        groups: (N,) group of each trial; a group is held out together.

    Returns:
        predictions (M, F).
    """
    alphas = ALPHAS * np.diag(gram_NN).mean()
    folds = GroupKFold(min(FOLDS, len(set(groups))))
    search = GridSearchCV(KernelRidge(kernel="precomputed"), {"alpha": alphas}, cv=folds, refit=False)
    search.fit(gram_NN, choosing_NF - choosing_NF.mean(0), groups=groups)
    alpha = search.best_params_["alpha"]
    logging.getLogger(__name__).info(
        "ridge: alpha %.3g of %.3g to %.3g, R2 %.4f on held-out source trials", alpha, alphas[0], alphas[-1], search.best_score_
    )
    mean_F = y_NF.mean(0)
    return KernelRidge(kernel="precomputed", alpha=alpha).fit(gram_NN, y_NF - mean_F).predict(target_MN) + mean_F


def with_moments_of(y_NF: NDArray[np.float32], predicted_MF: Matrix) -> Matrix:
    """Rescale predictions to the mean and SD of the outputs, per feature.

    Ridge shrinks predictions towards the mean, where the LLM answers the same for every clip. Other decoders undo this in the same
    way (Ozcelik and VanRullen 2023, Brain-Diffuser), and a control must not be weaker than they are.
    """
    deviation_F = predicted_MF.std(0)
    scale_F = np.divide(y_NF.std(0), deviation_F, out=np.zeros_like(deviation_F), where=deviation_F > 0)
    return (predicted_MF - predicted_MF.mean(0)) * scale_F + y_NF.mean(0)
