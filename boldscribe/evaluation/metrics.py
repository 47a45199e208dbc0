"""Metrics of a table of scores, one row each, in the order of the printed tables (docs/metrics.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

WAYS = re.compile(r"identification_(\d+)way")
WORDS = "words by sacreBLEU's 13a tokenizer, lower case, no punctuation"


@dataclass(frozen=True)
class Metric:
    """A metric, in percent.

    Attributes:
        title: name in tables.
        lowest, highest: range of its values, to which intervals are clipped.
        corpus: whether it scores all of a subject's texts together, from counts; otherwise it is the mean over trials.
        pair: function of `caption_metrics` that scores one prediction against one reference; empty for metrics that need more than
            the two texts, or are computed together (`scores.py`).
        signature: how `pair` computes it; packages in braces stand for their versions.
    """

    title: str
    lowest: float = 0.0
    highest: float = 100.0
    corpus: bool = False
    pair: str = ""
    signature: str = ""


METRICS = {
    "bertscore": Metric("BERTScore", lowest=-inf),
    "sacrebleu_1": Metric("SacreBLEU-1", corpus=True),
    "sacrebleu_2": Metric("SacreBLEU-2", corpus=True),
    "rouge_l_f": Metric("ROUGE-L F"),
    "rouge_l_p": Metric("ROUGE-L P"),
    "rouge_l_r": Metric("ROUGE-L R"),
    "cider": Metric("CIDEr", highest=inf),
    "meteor": Metric("METEOR", pair="meteor", signature=f"nltk {{nltk}}|modules: exact, stem (no synonyms)|{WORDS}"),
    "sentence_similarity": Metric("Sentence similarity", lowest=-100.0),
}


def title_of(metric: str) -> str:
    """Return the name of a metric in tables and headings."""
    if ways := WAYS.fullmatch(metric):
        return f"Identification {ways[1]}-way"
    if metric in METRICS:
        return METRICS[metric].title
    return "Identification top-1" if metric == "identification" else metric.replace("_", " ").capitalize()


def in_order(metrics: Iterable[str]) -> list[str]:
    """Return the names that are metrics, in the order of the printed tables: text metrics, then identification by number of candidates."""
    metrics = set(metrics)
    ways = sorted((m for m in metrics if WAYS.fullmatch(m)), key=lambda m: int(WAYS.fullmatch(m)[1]))  # type: ignore[index]
    return [m for m in [*METRICS, *ways, "identification"] if m in metrics]
