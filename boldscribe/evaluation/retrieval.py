"""Retrieval of a trial's clip, among its subject's test clips, from fMRI tokens: a measure of Stage I's alignment before any text.

The similarity is that of equation 1. The candidates are the subject's distinct test clips, so that chance is known. An encoder that
carries no information about its clip is at chance, whatever the clips look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.losses import cosine_similarity
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import generator
from boldscribe.models.device import best_device
from boldscribe.models.token_files import read_fmri_tokens
from boldscribe.stimuli.features import video_tokens

Floats = NDArray[np.float64]

COLUMNS = ["dataset", "row", "subject", "encoder", "data", "metric", "value", "chance", "p", "n_candidates"]
METRICS = ("top_1", "top_5", "two_way", "mean_rank", "median_rank")
DECIMALS = 6  # of a cosine of float32 vectors; cosines that are equal after rounding tie
CHUNK = 500  # permutations per batch


def write_retrieval(
    config: Config,
    dataset: str,
    *,
    tokens: Sequence[Path],
    labels: Sequence[Path],
    features: Sequence[Path],
    csv: Path,
) -> None:
    """Write how well each encoder's fMRI tokens retrieve the clips of the target subjects' test trials.

    Args:
        config: the experiment.
        dataset: its label.
        tokens: fMRI tokens of the test trials by each encoder, `encoder-E_data-D_role-test_tokens.npy`.
        labels: clips of the target subjects' trials.
        features: frozen video features of the test clips.
        csv: one line per subject or total, encoder, data and metric, with the columns `COLUMNS`: `top_1`, `top_5` and `two_way` in
            percent, `mean_rank` and `median_rank` starting at 1; `p` from `permutation_p`. A total is the mean over subjects.

    Raises:
        UserError: trials without a label or features, or of subjects other than the configured ones.
    """
    subjects = list(config.datasets[dataset].validation_subjects)
    known = pd.concat([pd.read_parquet(p, columns=["subject", "trial", "stim_file"]) for p in labels])
    x_by_clip: dict[str, Tensor] = {}
    lines: list[dict[str, object]] = []
    for path in tokens:
        z_NLD, trials = read_fmri_tokens(path, "test")
        trials = labelled(trials, known, subjects, path)
        if absent := sorted(set(trials["stim_file"]) - x_by_clip.keys()):
            x_by_clip |= dict(zip(absent, video_tokens(config, features, absent, best_device()).cpu(), strict=True))
        found = []
        for subject in tqdm(subjects, f"retrieval {path.stem}", mininterval=5):
            rows = np.flatnonzero(trials["subject"] == subject)
            clips, own_N = np.unique(trials["stim_file"].to_numpy(str)[rows], return_inverse=True)
            similarity_NC = cosine_similarity(torch.from_numpy(z_NLD[rows]), torch.stack([x_by_clip[clip] for clip in clips])).numpy()
            rng = generator(config.seed, "retrieval", dataset, subject)
            found.append(permuted_scores(similarity_NC, own_N, config.evaluation.permutations, rng))
        lines += [{**encoded_by(path), **line} for line in _lines(subjects, found)]
    with atomic(csv) as part:
        table = pd.DataFrame(lines).assign(dataset=dataset)[COLUMNS]
        table["n_candidates"] = table["n_candidates"].astype("Int64")
        table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")


def labelled(trials: pd.DataFrame, labels: pd.DataFrame, subjects: Sequence[str], where: Path) -> pd.DataFrame:
    """Add each test trial's `stim_file`, keeping the order of the trials.

    Raises:
        UserError: trials of other subjects than these, or without a label.
    """
    table = trials.merge(labels[["subject", "trial", "stim_file"]], on=["subject", "trial"], how="left", validate="one_to_one")
    found, lacking = sorted(set(table["subject"])), int(table["stim_file"].isna().sum())
    if set(found) != set(subjects) or lacking:
        raise UserError(
            str(where),
            f"trials: found trials of subjects {', '.join(found)}, {lacking} of them without a label, "
            f"expected labelled trials of {', '.join(subjects)}; run the trials stage again",
        )
    return table


def encoded_by(path: Path) -> dict[str, str]:
    """Parse `encoder` and `data` from the name `encoder-E_data-D_role-R_tokens.npy`."""
    return dict(part.split("-", 1) for part in path.name.split("_")[:2])


class Retrieved:
    """Similarities as ranks, from which the scores of any assignment of clips to trials follow.

    Args:
        similarity_NC: of each trial and candidate.

    Attributes:
        rank_NC: of each candidate in each trial, starting at 1; candidates that tie get the mean of their ranks.
        top_NC: by k, whether the candidate is among the k most similar; its share if it ties for the last place.
    """

    def __init__(self, similarity_NC: NDArray[np.floating]) -> None:
        distance_NC = -np.round(similarity_NC.astype(np.float64), DECIMALS)
        self.rank_NC: Floats = rankdata(distance_NC, "average", axis=1)
        first_NC, last_NC = (rankdata(distance_NC, method, axis=1) for method in ("min", "max"))
        self.top_NC = {k: np.clip((k + 1 - first_NC) / (last_NC + 1 - first_NC), 0, 1) for k in (1, 5)}

    def scores(self, own_BN: NDArray[np.integer]) -> Floats:
        """Compute the `METRICS` of each assignment of a candidate to each trial: (B, 5)."""
        trials = np.arange(own_BN.shape[1])
        rank_BN = self.rank_NC[trials, own_BN]
        others = self.rank_NC.shape[1] - 1
        two_way = (others + 1 - rank_BN.mean(1)) / others if others else np.full(len(own_BN), 0.5)
        top_1, top_5 = (self.top_NC[k][trials, own_BN].mean(1) for k in (1, 5))
        return np.column_stack([100 * top_1, 100 * top_5, 100 * two_way, rank_BN.mean(1), np.median(rank_BN, axis=1)])


@dataclass(frozen=True)
class Scores:
    """Retrieval of a subject, or the mean over subjects: the `METRICS` observed, by chance, and with the clips permuted among trials.

    Attributes:
        value_M, chance_M: (5).
        permuted_BM: (permutations, 5).
        n_candidates: distinct clips; None where subjects differ.
    """

    value_M: Floats
    chance_M: Floats
    permuted_BM: Floats
    n_candidates: int | None


def permuted_scores(
    similarity_NC: NDArray[np.floating], own_N: NDArray[np.integer], n_permutations: int, rng: np.random.Generator
) -> Scores:
    """Score a subject from the similarity of each trial and candidate, and each trial's own candidate."""
    retrieved = Retrieved(similarity_NC)
    sizes = [min(CHUNK, n_permutations - start) for start in range(0, n_permutations, CHUNK)]
    permuted = [retrieved.scores(rng.permuted(np.tile(own_N, (size, 1)), axis=1)) for size in sizes]
    n = similarity_NC.shape[1]
    return Scores(retrieved.scores(own_N[None])[0], chance(n), np.concatenate(permuted), n)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Average over subjects, whose clips are permuted independently."""
    value_M, chance_M, permuted_BM = (
        np.mean([getattr(one, name) for one in scores], axis=0) for name in ("value_M", "chance_M", "permuted_BM")
    )
    sizes = {one.n_candidates for one in scores}
    return Scores(value_M, chance_M, permuted_BM, sizes.pop() if len(sizes) == 1 else None)


def permutation_p(scores: Scores) -> Floats:
    """Return the share of permutations, including the identity, in which a score is at least as good; ranks are good if low."""
    sign_M = np.array([-1 if metric.endswith("rank") else 1 for metric in METRICS])
    as_good_M = (sign_M * scores.permuted_BM >= sign_M * scores.value_M - 1e-9).sum(0)
    return np.asarray((1 + as_good_M) / (1 + len(scores.permuted_BM)))


def chance(n_candidates: int) -> Floats:
    """Return the `METRICS` of an encoder that carries no information about its clip."""
    middle = (n_candidates + 1) / 2
    return np.array([100 / n_candidates, 100 * min(5, n_candidates) / n_candidates, 50, middle, middle])


def _lines(subjects: Sequence[str], scores: Sequence[Scores]) -> list[dict[str, object]]:
    """Return the lines of an encoder: its subjects, then the total."""
    rows = {f"Subject-{i}": (subject, one) for i, (subject, one) in enumerate(zip(subjects, scores, strict=True), 1)}
    rows["Total"] = ("", mean_scores(scores))
    return [
        {"row": row, "subject": subject, "metric": metric, "value": value, "chance": by_chance, "p": p, "n_candidates": one.n_candidates}
        for row, (subject, one) in rows.items()
        for metric, value, by_chance, p in zip(METRICS, one.value_M, one.chance_M, permutation_p(one), strict=True)
    ]
