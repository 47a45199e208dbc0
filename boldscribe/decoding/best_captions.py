"""The captions that say the most about all others: what a decoder without any brain would best answer, always or to a class.

They are chosen by metrics, and apart from `decode`: what changes in a metric must not have the LLM write everything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from boldscribe.config import Config
from boldscribe.decoding.task import ANY, asked, labelled, source_captions
from boldscribe.evaluation.bleu import sentence_bleu
from boldscribe.files import atomic
from boldscribe.reproducible import generator

# Candidates and references of each round: those that do best against a few references are held against more. Bounds the pairs that
# are scored to 36,000, however many captions there are.
ROUNDS = ((400, 50), (20, 800))
ENOUGH = 5  # captions from which the best of a class is chosen; with fewer, those of other instructions are taken in


class _CachedTokenizer(Tokenizer):
    """rouge-score's own, which recurring texts pass once."""

    def __init__(self) -> None:
        self._tokenize = cache(DefaultTokenizer().tokenize)  # without stemming

    def tokenize(self, text: str) -> list[str]:
        """Its words."""
        return list(self._tokenize(text))


def write_best_captions(config: Config, dataset: str, *, captions: Sequence[Path], labels: Sequence[Path], best: Path) -> None:
    """Write the best source caption of each instruction, for any action and for each: `action` (empty for any), `instruction`, `text`.

    Where there are few captions of both action and instruction, the best of the action alone.

    Args:
        config: the experiment.
        dataset: name of the data set.
        captions: tables of the source shards.
        labels: labels of the source subjects.
        best: the table to write.

    Raises:
        UserError: no caption of a source trial, captions or labels of a target subject, or a trial without label.
    """
    table = labelled(config, dataset, source_captions(config, dataset, captions), labels)
    rows = []
    for instruction in config.video_llama.instructions:
        for action in sorted({ANY, *table["action"]}):
            pool = asked(table, instruction) if action == ANY else asked(table[table["action"] == action], instruction, ENOUGH)
            rng = generator(config.seed, "best_captions", dataset, action, instruction)
            rows.append({"action": action, "instruction": instruction, "text": best_caption(pool["text"].tolist(), rng)})
    with atomic(best) as part:
        pd.DataFrame(rows).to_parquet(part, index=False)


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
