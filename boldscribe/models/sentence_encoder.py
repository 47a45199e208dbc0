"""Encoder of sentences to unit vectors: mean-pooled BERT, as all-MiniLM-L6-v2 was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer


class SentenceEncoder:
    """A frozen sentence encoder.

    Args:
        folder: weights (safetensors) and tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32).eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str], batch_size: int = 64) -> Tensor:
        """Encode sentences to unit vectors (sentences, width), whose dot products are cosines."""
        vectors = []
        for start in range(0, len(sentences), batch_size):
            batch = self.tokenizer(list(sentences[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt")
            hidden = self.model(**batch).last_hidden_state
            weight = batch["attention_mask"][..., None].float()
            vectors.append(normalize((hidden * weight).sum(1) / weight.sum(1), dim=1))
        return torch.cat(vectors).clone()
