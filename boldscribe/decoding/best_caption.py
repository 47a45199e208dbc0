"""The caption that says the most about all others: what a decoder without any brain would best answer, always."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from boldscribe.evaluation.bleu import sentence_bleu

# Candidates and references of each round: those that do best against a few references are held against more. Bounds the pairs that
# are scored to 36,000, however many captions there are.
ROUNDS = ((400, 50), (20, 800))


class _CachedTokenizer(Tokenizer):
    """rouge-score's own, which recurring texts pass once."""

    def __init__(self) -> None:
        self._tokenize = cache(DefaultTokenizer().tokenize)  # without stemming

    def tokenize(self, text: str) -> list[str]:
        """Its words."""
        return list(self._tokenize(text))


def best_caption(texts: Sequence[str], rng: np.random.Generator) -> str:
    """The text with the highest mean agreement with the others; the first of several.

    Args:
        texts: captions, one per trial; what is frequent counts as often as it is there.
        rng: chooses candidates and references where there are more than are scored.
    """
    candidates: NDArray[np.int64] = np.arange(len(texts))
    for n_candidates, n_references in ROUNDS:
        if len(candidates) > n_candidates:
            candidates = np.sort(rng.choice(candidates, n_candidates, replace=False))
        references = np.sort(rng.choice(len(texts), min(n_references, len(texts)), replace=False))
        scores = mean_agreement(texts, candidates, references)
        candidates = candidates[np.argsort(-scores, kind="stable")]
        if len(references) == len(texts):
            break
        candidates = candidates[: ROUNDS[-1][0]]
    return texts[candidates[0]]


def mean_agreement(
    texts: Sequence[str], candidates: Sequence[int] | NDArray[np.int64], references: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean agreement of each candidate with the references, itself left out: the mean of ROUGE-L F, sacreBLEU-1 and sacreBLEU-2 in %.

    These are the paper's scores but for BERTScore, which would need an encoder.
    """
    rouge = RougeScorer(["rougeL"], tokenizer=_CachedTokenizer())
    known: dict[str, NDArray[np.float64]] = {}  # equal texts have equal scores
    means = np.zeros(len(candidates))
    for i, candidate in enumerate(candidates):
        text = texts[candidate]
        if text not in known:
            others = [texts[r] for r in references]
            bleu = sentence_bleu([text] * len(others), others)[["sacrebleu_1", "sacrebleu_2"]].to_numpy()
            rouges = np.array([100 * rouge.score(other, text)["rougeL"].fmeasure for other in others])
            known[text] = (bleu.sum(1) + rouges) / 3
        scores = known[text][references != candidate]
        means[i] = scores.mean() if len(scores) else 0.0
    return means
