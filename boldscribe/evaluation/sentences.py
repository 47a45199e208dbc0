"""Sentence embeddings of distinct texts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from boldscribe.evaluation.fixed_batches import equal_batches
from boldscribe.models.sentence_encoder import SentenceEncoder

BATCH = 8


def sentence_vectors(texts: Iterable[str], encoder: SentenceEncoder) -> dict[str, NDArray[np.float64]]:
    """Return a unit vector (width) for each distinct text, so that a dot product is a cosine. A blank text gets the zero vector."""
    distinct = sorted({text for text in texts if text.strip()})
    vectors: dict[str, NDArray[np.float64]] = {}
    lengths = [len(ids) for ids in encoder.tokenizer(distinct, truncation=True).input_ids] if distinct else []
    for batch in equal_batches(lengths, BATCH):
        found = encoder.encode([distinct[i] for i in batch], BATCH).numpy().astype(np.float64)
        vectors |= {distinct[i]: vector for i, vector in zip(batch, found, strict=True)}
    width = encoder.model.config.hidden_size
    return vectors | {text: np.zeros(width) for text in texts if not text.strip()}
