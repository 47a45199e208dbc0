"""BERTScore F1 (Zhang et al. 2020) by the bert-score library, with workarounds for its pitfalls.

Pitfalls of the library with transformers 5, and the workarounds:

- It fails on a text without tokens. Where it still works, it gives such a text a raw score of 0, and so do we. Rescaled,
  that would be far below 0 (-493 for roberta-large), and one empty answer would outweigh a hundred others: it stays 0.
- It does not truncate if the tokenizer states no length, and fails on long texts: we set the encoder's own length.
- It requests the space before a first word from RoBERTa's tokenizer, but the request is lost: we set it when loading the tokenizer.
- It takes a folder for T5 if its path contains 't5': we pass the folder relative to its parent.
- It pads the sentences of a batch, in an order that changes from process to process. Padding counts as a token of similarity 0,
  which beats all negative ones (up to 1.2 % between texts that share nothing). Here, a batch holds a fixed number of texts of
  equal length. A score thus depends only on its two texts, is bit-identical on repetition, and equals the library's for one pair.
- It encodes a text once per call: we encode it once for all pairs that contain it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bert_score import BERTScorer
from bert_score.utils import bert_encode, greedy_cos_idf
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

from boldscribe.config.training_settings import Evaluation
from boldscribe.evaluation.fixed_batches import equal_batches
from boldscribe.machinery.errors import UserError

# Texts and pairs per batch: fixed, however much there is to score; a GPU needs more to be busy.
BATCHES = {"cpu": (8, 64), "cuda": (64, 512)}
Encoded = tuple[Tensor, Tensor]


class BertScore:
    """BERTScore with one encoder, loaded once.

    Args:
        folder: encoder and tokenizer.
        layer: layer whose output is compared.
        baseline: table of the score of unrelated sentences per layer (`LAYER,P,R,F`), which is rescaled to 0; None keeps raw scores.

    Raises:
        UserError: encoder or baseline is missing, or does not have the layer.
    """

    def __init__(self, folder: Path, layer: int, baseline: Path | None) -> None:
        folder = folder.absolute()
        _check(folder, layer, baseline)
        options = {"lang": "en", "rescale_with_baseline": True, "baseline_path": str(baseline.absolute())} if baseline else {}
        with chdir(folder.parent):
            self.scorer = BERTScorer(model_type=folder.name, num_layers=layer, **options)
        self.folder, self.baseline = folder, baseline
        self.at_once = BATCHES[torch.device(self.scorer.device).type]
        self.tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        positions = self.scorer._model.config.max_position_embeddings
        if self.tokenizer.model_max_length > positions:
            self.tokenizer.model_max_length = positions - 2  # RoBERTa keeps two positions for padding

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return F1 of each pair (pairs), in percent. Each distinct text is encoded once and kept: 4 bytes x width per token."""
        texts = sorted({*predictions, *references})
        tokens = self.tokenizer([text.strip() for text in texts], truncation=True).input_ids if texts else []
        special = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}
        number = {text: i for i, text in enumerate(texts) if not special.issuperset(tokens[i])}
        encoded = self._encode({i: tokens[i] for i in number.values()})
        scores = np.zeros(len(predictions))
        scored = [i for i, pair in enumerate(zip(predictions, references, strict=True)) if pair[0] in number and pair[1] in number]
        pairs = [(number[predictions[i]], number[references[i]]) for i in scored]
        scores[scored] = 100 * self._match(pairs, encoded)
        return scores

    def _encode(self, tokens: Mapping[int, list[int]]) -> dict[int, Encoded]:
        """Return each text's embedding (tokens, width) and weights (tokens): 0 for the special tokens at both ends, as in the library."""
        numbers: list[int] = list(tokens)
        encoded: dict[int, Encoded] = {}
        special = torch.tensor([i for i in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id) if i is not None])
        for batch in tqdm(list(equal_batches([len(tokens[i]) for i in numbers], self.at_once[0])), "BERTScore: texts", mininterval=5):
            ids_NL = torch.tensor([tokens[numbers[i]] for i in batch])
            mask_NL = torch.ones_like(ids_NL, device=self.scorer.device)
            embedding_NLD = bert_encode(self.scorer._model, ids_NL.to(self.scorer.device), mask_NL)
            weights_NL = (~torch.isin(ids_NL, special)).float()
            encoded |= {numbers[i]: pair for i, pair in zip(batch, zip(embedding_NLD, weights_NL, strict=True), strict=True)}
        return encoded

    def _match(self, pairs: Sequence[tuple[int, int]], encoded: Mapping[int, Encoded]) -> NDArray[np.float64]:
        """Return F1 of pairs (prediction, reference) of encoded texts (pairs), 0 to 1 if not rescaled."""
        scores = np.zeros(len(pairs))
        lengths = [tuple(len(encoded[i][1]) for i in pair) for pair in pairs]
        for batch in tqdm(list(equal_batches(lengths, self.at_once[1])), "BERTScore: pairs", mininterval=5):
            sides = []
            for side in (1, 0):  # references first
                embedding_BLD, weights_BL = (torch.stack([encoded[pairs[i][side]][k] for i in batch]) for k in (0, 1))
                sides += [embedding_BLD, torch.ones_like(weights_BL, device=self.scorer.device), weights_BL]
            score_B3 = torch.stack(greedy_cos_idf(*sides), dim=-1).cpu()
            if self.baseline:
                score_B3 = (score_B3 - self.scorer.baseline_vals) / (1 - self.scorer.baseline_vals)
            scores[batch] = score_B3[:, 2].numpy()
        return scores


def load_bert_score(config: Evaluation, models_dir: Path) -> BertScore:
    """Load BERTScore with the configured encoder.

    Raises:
        UserError: its encoder or baseline is missing.
    """
    folder = models_dir / ("sentence_encoder" if config.bertscore_model == "embedded" else "bertscore_encoder")
    return BertScore(folder, config.bertscore_layer, Path(config.bertscore_baseline) if config.bertscore_baseline else None)


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
