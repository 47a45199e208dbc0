"""BERTScore F1 (Zhang et al. 2020) by the bert-score library, with its traps closed.

What the library does not do by itself, with transformers 5:

- it fails at a text without tokens. Where it still works it gives such a text a raw score of 0, and so do we. Rescaled,
  that would be far below 0 (-493 for roberta-large), and one empty answer would outweigh a hundred others: it stays 0;
- it does not truncate where the tokenizer states no length, and fails at long texts: the encoder's own length is set;
- the space before a first word, which it asks of RoBERTa's tokenizer, is lost: the tokenizer is told when it is loaded;
- it takes a folder for T5 when its path has 't5' in it: the folder is named from its parent;
- the sentences of a batch pad each other, in an order that changes from process to process: sentences are encoded one by one,
  so that a score depends on its two texts alone and repeats bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from bert_score import BERTScorer
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

from boldscribe.errors import UserError


class BertScore:
    """BERTScore with one encoder, loaded once.

    Args:
        folder: encoder and tokenizer.
        layer: layer whose output is compared.
        baseline: table of the score of unrelated sentences per layer (`LAYER,P,R,F`), which becomes 0; None leaves scores raw.

    Raises:
        UserError: encoder or baseline missing, or the layer is in neither.
    """

    def __init__(self, folder: Path, layer: int, baseline: Path | None) -> None:
        folder = folder.absolute()
        _check(folder, layer, baseline)
        options = {"lang": "en", "rescale_with_baseline": True, "baseline_path": str(baseline.absolute())} if baseline else {}
        with chdir(folder.parent):
            self._scorer = BERTScorer(model_type=folder.name, num_layers=layer, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        positions = self._scorer._model.config.max_position_embeddings
        if tokenizer.model_max_length > positions:
            tokenizer.model_max_length = positions - 2  # RoBERTa keeps two positions for padding
        self._scorer._tokenizer = self._tokenizer = tokenizer

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """F1 of each pair (pairs), in percent."""
        pairs = list(zip(predictions, references, strict=True))
        return np.array([self._score(*pair) for pair in tqdm(pairs, "BERTScore", mininterval=5)])

    def _score(self, prediction: str, reference: str) -> float:
        if not (self._has_tokens(prediction) and self._has_tokens(reference)):
            return 0.0
        _, _, f1 = self._scorer.score([prediction], [reference], batch_size=1)
        return 100 * f1.item()

    def _has_tokens(self, text: str) -> bool:
        return bool(self._tokenizer.encode(text.strip(), add_special_tokens=False, truncation=True))


def _check(folder: Path, layer: int, baseline: Path | None) -> None:
    try:
        layers = AutoConfig.from_pretrained(folder).num_hidden_layers
    except (OSError, ValueError) as error:
        raise UserError(str(folder), f"no encoder for BERTScore: {error}; put it there or change evaluation.bertscore_model") from None
    if not 0 < layer <= layers:
        raise UserError("evaluation.bertscore_layer", f"found {layer}, expected 1 to {layers}, the layers of the encoder in {folder}")
    if baseline is None:
        return
    try:
        found = pd.read_csv(baseline)
    except (OSError, ValueError) as error:
        raise UserError(
            str(baseline), f"no baseline for BERTScore: {error}; put it there, or set evaluation.bertscore_baseline to null for raw scores"
        ) from None
    if len(found.columns) != 4 or len(found) <= layer:
        raise UserError(
            str(baseline),
            f"found {len(found)} rows of {', '.join(map(str, found.columns))}, expected columns LAYER, P, R, F "
            f"and a row for each layer from 0 to at least {layer}",
        )
