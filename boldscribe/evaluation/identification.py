"""Identification: is a decoded text nearer to its own clip's caption than to the captions of other clips?

Text scores are high between any two captions in one house style, so that an unrelated caption scores well. Identification
is free of this: a text that says nothing about its clip identifies it at chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boldscribe.models.sentence_encoder import SentenceEncoder

# Cosines of float32 vectors nearer than this are taken as equal.
TOLERANCE = 1e-6


def identify(
    predictions: Sequence[str],
    references: Sequence[str],
    encoder: SentenceEncoder,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find each prediction's reference among all references, by the cosine of sentence embeddings.

    Equal references are one candidate, since nothing can tell them apart. A blank prediction says nothing: all candidates tie.

    Args:
        predictions: decoded texts, one per trial.
        references: captions, one per trial of the same subject; the candidates are the distinct ones.
        encoder: gives unit vectors.

    Returns:
        Top-1 hit and 2-way identification of each trial (trials), 0 to 1, see `identification_accuracy`.
    """
    candidates = sorted(set(references))
    texts = sorted(set(predictions) | set(candidates))
    vectors = dict(zip(texts, encoder.encode(texts).numpy(), strict=True))
    cosine_PC = np.stack([vectors[p] for p in predictions]) @ np.stack([vectors[c] for c in candidates]).T
    cosine_PC[[not p.strip() for p in predictions]] = 0
    return identification_accuracy(cosine_PC, np.array([candidates.index(r) for r in references]))


def identification_accuracy(
    similarity_PC: NDArray[np.floating],
    true_P: NDArray[np.integer],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top-1 hits and 2-way identification from similarities of predictions and candidates.

    Args:
        similarity_PC: similarity of each prediction to each candidate.
        true_P: index of each prediction's own candidate.

    Returns:
        Top-1 hit (P): 1 if its own candidate is the nearest, shared (1/k) among k that tie; chance is 1/C.
        2-way (P): share of the other candidates that are less similar, ties counting half; chance is 1/2, which is also the
        value where there is no other candidate.
    """
    own_P1 = np.take_along_axis(similarity_PC, true_P[:, None], axis=1)
    nearer_P = (similarity_PC > own_P1 + TOLERANCE).sum(1)
    tied_P = (np.abs(similarity_PC - own_P1) <= TOLERANCE).sum(1)  # its own candidate included
    others = similarity_PC.shape[1] - 1
    top_1_P = np.where(nearer_P == 0, 1 / tied_P, 0.0)
    beaten_P = others + 1 - nearer_P - tied_P + (tied_P - 1) / 2
    return top_1_P, beaten_P / others if others else np.full(len(true_P), 0.5)
