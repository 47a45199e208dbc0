"""CIDEr and METEOR from the Python parts of their libraries, without Java (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import exp, log, sqrt
from operator import mul

import numpy as np
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score
from numpy.typing import NDArray
from pycocoevalcap.cider.cider_scorer import CiderScorer, precook
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

# As in coco-caption, whose tokenizer drops these after splitting.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", "(", ")", "[", "]", "{", "}", '"'])
N, SIGMA = 4, 6.0  # of CIDEr-D: longest n-gram, and spread of the length penalty
_split = Tokenizer13a()


@lru_cache(2**16)
def words(text: str) -> tuple[str, ...]:
    """Split a text into words: sacreBLEU's 13a tokens in lower case, without punctuation. coco-caption's tokenizer is a Java program."""
    return tuple(token for token in _split(text.lower()).split() if token not in PUNCTUATION)


class Cider:
    """CIDEr-D (Vedantam et al. 2015) as it is published: 100 times its library's 0 to 10, hence 0 to 1000.

    N-grams and their document frequencies come from pycocoevalcap. Its scorer weights the n-grams of both texts again for each pair;
    here, each text is weighted once.

    Args:
        references: captions, one per trial: the documents over which the rarity of an n-gram is counted.
    """

    def __init__(self, references: Sequence[str]) -> None:
        counting = CiderScorer()
        counting.crefs = [[_n_grams(reference)] for reference in references]
        counting.compute_doc_freq()
        self._frequency, self._n_documents = counting.document_frequency, len(references)
        self._weighted = cache(self._weigh)

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Score each pair (pairs). The references need not be among the documents."""
        return 1000 * np.array([self._agreement(*pair) for pair in zip(predictions, references, strict=True)])

    def _agreement(self, prediction: str, reference: str) -> float:
        """Average the clipped cosine over n-gram lengths, with a penalty for a different text length (equation 6 of CIDEr-D)."""
        predicted, said = self._weighted(prediction), self._weighted(reference)
        cosines = [
            sum(min(weight, other[n_gram]) * other[n_gram] for n_gram, weight in own.items() if n_gram in other) / norms
            for own, other, norms in zip(predicted.weights, said.weights, map(mul, predicted.norms, said.norms), strict=True)
            if norms
        ]
        return sum(cosines) / N * exp(-((predicted.length - said.length) ** 2) / (2 * SIGMA**2))

    def _weigh(self, text: str) -> _Weighted:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(N)]
        counts = _n_grams(text)
        for n_gram, count in counts.items():
            weights[len(n_gram) - 1][n_gram] = count * (log(self._n_documents) - log(max(1.0, self._frequency.get(n_gram, 0.0))))
        norms = [sqrt(sum(w**2 for w in of_length.values())) for of_length in weights]
        return _Weighted(weights, norms, sum(count for n_gram, count in counts.items() if len(n_gram) == 2))


@dataclass(frozen=True)
class _Weighted:
    """A text's n-grams of each length with their weights, the norms of the weights, and the number of its bigrams."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    length: int


def _n_grams(text: str) -> dict[tuple[str, ...], int]:
    return precook(" ".join(words(text)), N)


class _Stemmer(PorterStemmer):
    """Porter's stemmer with a cache."""

    stem = lru_cache(2**16)(PorterStemmer.stem)


class _NoSynonyms:
    """WordNet substitute in which no word has a synonym."""

    def synsets(self, word: str) -> list[object]:
        return []


_STEMMER, _WORDNET = _Stemmer(), _NoSynonyms()


def meteor(prediction: str, reference: str) -> float:
    """Compute METEOR (Lavie and Agarwal 2007) by nltk, with its modules exact and stem, in percent.

    Its third module matches synonyms by WordNet, which no maintained Python package provides.
    """
    return 100 * single_meteor_score(words(reference), words(prediction), stemmer=_STEMMER, wordnet=_WORDNET)
