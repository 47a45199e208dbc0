"""SacreBLEU with n-grams up to order 1 and 2 (Post 2018; 13a tokenizer, cased): of a sentence, and of a corpus from its counts.

The paper reports sacreBLEU per subject. The library's own score of many sentences is the corpus-level one, from n-gram counts
summed over sentences; the tables show this score. Counts of trials can be summed over any resample of them, which yields the
intervals of a corpus-level score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU
from tqdm import tqdm

COUNTS = ["correct_1", "correct_2", "total_1", "total_2", "prediction_length", "reference_length"]


def sentence_bleu(predictions: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Return `sacrebleu_1` and `sacrebleu_2` (%) per pair, and the `COUNTS` from which corpus-level scores are computed.

    Sentences shorter than the order are scored by the orders that they have (`effective_order`). An empty text scores 0.
    """
    bleu = BLEU(max_ngram_order=2, effective_order=True)
    options = {"smooth_method": bleu.smooth_method, "effective_order": True, "max_ngram_order": 1}
    rows = []
    for prediction, reference in zip(tqdm(predictions, "SacreBLEU", mininterval=5, delay=5), references, strict=True):
        two = bleu.sentence_score(prediction, [reference])
        one = BLEU.compute_bleu(two.counts[:1], two.totals[:1], two.sys_len, two.ref_len, **options)
        rows.append([one.score, two.score, *two.counts, *two.totals, two.sys_len, two.ref_len])
    return pd.DataFrame(rows, columns=["sacrebleu_1", "sacrebleu_2", *COUNTS])


def corpus_bleu(counts_XK: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Compute corpus-level sacreBLEU (X), in percent, from summed counts (X, K), K in the order of `COUNTS`.

    Follows the library's defaults: brevity penalty, and 1 / (2 total) for an order without a match (exponential smoothing).

    Args:
        counts_XK: sums of counts; sums divided by the number of trials would be smoothed differently.
        order: 1 or 2.
    """
    correct_XN, total_XN = counts_XK[:, :order], counts_XK[:, 2 : 2 + order]
    length_X, reference_X = counts_XK[:, 4], counts_XK[:, 5]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_XN = np.where(correct_XN > 0, correct_XN, 0.5) / total_XN
        brevity_X = np.minimum(0, 1 - reference_X / length_X)
        score_X = 100 * np.exp(brevity_X + np.log(precision_XN).mean(1))
    scored_X = (correct_XN[:, 0] > 0) & (total_XN > 0).all(1)
    return np.where(scored_X, score_X, 0.0)
