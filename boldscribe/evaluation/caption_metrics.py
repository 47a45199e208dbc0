"""CIDEr and METEOR by the Python parts of their libraries, without Java (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score
from numpy.typing import NDArray
from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_refs, cook_test
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

# As coco-caption: its tokenizer drops these after splitting.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", "(", ")", "[", "]", "{", "}", '"'])
_split = Tokenizer13a()


@lru_cache(2**16)
def words(text: str) -> tuple[str, ...]:
    """Words of a text: sacreBLEU's 13a tokens in lower case, without punctuation. coco-caption's own tokenizer is a Java program."""
    return tuple(token for token in _split(text.lower()).split() if token not in PUNCTUATION)


class Cider:
    """CIDEr-D (Vedantam et al. 2015) by pycocoevalcap, in percent of its library's 0 to 10, as it is published: 0 to 1000.

    Args:
        references: captions, one for each trial: the documents that the rarity of an n-gram is counted over.
    """

    def __init__(self, references: Sequence[str]) -> None:
        self._documents = [_cook(reference) for reference in references]
        counting = CiderScorer()
        counting.crefs = self._documents
        counting.compute_doc_freq()
        self._frequency = counting.document_frequency

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Score of each pair (pairs). The references need not be among the documents."""
        scores = [self._score(*pair) for pair in zip(predictions, references, strict=True)]
        return 100 * np.array(scores)

    def _score(self, prediction: str, reference: str) -> float:
        scorer = CiderScorer()
        scorer.document_frequency = self._frequency
        # The library takes the number of documents from the length of this list, and scores as many as there are predictions.
        scorer.crefs = [_cook(reference), *self._documents[1:]]
        scorer.ctest = [cook_test(" ".join(words(prediction)))]
        return float(scorer.compute_cider()[0])


def _cook(reference: str) -> list[dict[tuple[str, ...], int]]:
    return cook_refs([" ".join(words(reference))])


class _Stemmer(PorterStemmer):
    """Porter's stemmer that keeps what it found."""

    stem = lru_cache(2**16)(PorterStemmer.stem)


class _NoSynonyms:
    """A WordNet in which no word has a synonym."""

    def synsets(self, word: str) -> list[object]:
        return []


_STEMMER, _WORDNET = _Stemmer(), _NoSynonyms()


def meteor(prediction: str, reference: str) -> float:
    """METEOR (Lavie and Agarwal 2007) by nltk, with its modules exact and stem, in percent.

    Its third module matches synonyms by WordNet, which no maintained Python package carries.
    """
    return 100 * single_meteor_score(words(reference), words(prediction), stemmer=_STEMMER, wordnet=_WORDNET)
