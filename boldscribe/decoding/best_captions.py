"""Captions that agree best with all others: the best answers of a decoder without brain data, overall or for a class.

They are chosen by metrics, separately from `decode`, so that a change of a metric does not make the LLM decode everything again.
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
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import generator

# Candidates and references of each round: the candidates that score best against a few references are compared with more. This limits
# the number of scored pairs to 36,000, however many captions there are.
ROUNDS = ((400, 50), (20, 800))
ENOUGH = 5  # minimum number of captions to choose the best of a class from; with fewer, other instructions are included


class _CachedTokenizer(Tokenizer):
    """rouge-score's own tokenizer with a cache for recurring texts."""

    def __init__(self) -> None:
        self._tokenize = cache(DefaultTokenizer().tokenize)  # without stemming

    def tokenize(self, text: str) -> list[str]:
        """Split a text into words."""
        return list(self._tokenize(text))


def write_best_captions(config: Config, dataset: str, *, captions: Sequence[Path], labels: Sequence[Path], best: Path) -> None:
    """Write the best source caption of each instruction, for any action and for each: `action` (empty for any), `instruction`, `text`.

    If an action has few captions of an instruction, its best caption of any instruction is used.

    Args:
        config: the experiment.
        dataset: name of the data set.
        captions: tables of the source shards.
        labels: labels of the source subjects.
        best: the table to write.

    Raises:
        UserError: no caption of a source trial, captions or labels of a target subject, or a trial without a label.
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
    """Return the text with the highest mean agreement with the others; the first one if several tie.

    Args:
        texts: captions, one per trial; a repeated caption counts each time.
        rng: samples candidates and references if there are more than are scored.
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
    """Compute each candidate's mean agreement with the references, excluding itself: mean of ROUGE-L F, sacreBLEU-1, sacreBLEU-2 in %.

    These are the paper's scores except BERTScore, which would need an encoder.
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
