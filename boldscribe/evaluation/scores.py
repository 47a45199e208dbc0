"""Scores of decoded texts against their references (paper 4.2): for each trial, and for all pairs that a permutation forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.evaluation import caption_metrics
from boldscribe.evaluation.bertscore import BertScore, load_bert_score
from boldscribe.evaluation.bleu import COUNTS, sentence_bleu
from boldscribe.evaluation.decoded import read_decoded
from boldscribe.evaluation.identification import columns as identification_columns
from boldscribe.evaluation.identification import identification
from boldscribe.evaluation.metrics import METRICS
from boldscribe.evaluation.people import against_people
from boldscribe.evaluation.score_tables import LEFT_OUT, SIGNATURES, WARNINGS
from boldscribe.evaluation.sentences import sentence_vectors
from boldscribe.evaluation.signatures import metric_signatures
from boldscribe.machinery.files import atomic
from boldscribe.models.sentence_encoder import SentenceEncoder
from boldscribe.stimuli.familiarity import warning

OF_PAIRS = {name: metric.pair for name, metric in METRICS.items() if metric.pair}
TEXT_SCORES = ["bertscore", "sacrebleu_1", "sacrebleu_2", "rouge_l_f", "rouge_l_p", "rouge_l_r", *OF_PAIRS]
TRIAL = ["condition", "subject", "trial"]
PAIR = ["prediction", "reference"]


def statistics_columns(ways: Sequence[int]) -> list[str]:
    """Return the columns of scores, for trials and pairs alike: metrics (%), then the counts of corpus-level BLEU."""
    return [*METRICS, *identification_columns(ways), *COUNTS]


def score(predictions: Sequence[str], references: Sequence[str], bert_score: BertScore) -> pd.DataFrame:
    """Score texts pair by pair: the columns `TEXT_SCORES`, in percent, and `COUNTS`. Each score depends only on its two texts.

    - `bertscore`: F1, see `BertScore`. An empty text scores 0.
    - `sacrebleu_1`, `sacrebleu_2`: sentence-level sacreBLEU with n-grams up to that order, 13a tokenizer, cased.
    - `rouge_l_{f,p,r}`: ROUGE-L (Lin 2004) by rouge-score without stemming. Its tokens are runs of ASCII letters and digits,
      so that a text in another script scores 0.
    - others: see the functions that the table of metrics names.
    """
    scores = sentence_bleu(predictions, references)
    rouge = RougeScorer(["rougeL"], tokenizer=_RougeTokenizer(use_stemmer=False))
    pairs = list(zip(predictions, references, strict=True))
    rouges = [rouge.score(reference, prediction)["rougeL"] for prediction, reference in tqdm(pairs, "ROUGE-L", mininterval=5)]
    scores["rouge_l_f"] = [100 * r.fmeasure for r in rouges]
    scores["rouge_l_p"] = [100 * r.precision for r in rouges]
    scores["rouge_l_r"] = [100 * r.recall for r in rouges]
    for name, function in OF_PAIRS.items():
        score_pair = getattr(caption_metrics, function)
        scores[name] = [score_pair(*pair) for pair in tqdm(pairs, METRICS[name].title, mininterval=5)]
    scores["bertscore"] = bert_score(predictions, references)
    return scores[[*TEXT_SCORES, *COUNTS]]


class _RougeTokenizer(DefaultTokenizer):
    """The library's tokenizer with a cache."""

    tokenize = lru_cache(2**16)(DefaultTokenizer.tokenize)


def pairs_of(texts: pd.DataFrame) -> pd.DataFrame:
    """Pair each prediction with the reference of every trial `other` of its subject and instruction, including its own.

    The style of a caption follows its instruction. Two texts with the same instruction match in style even without brain data.
    Permuting references among them therefore keeps the style and removes the content.

    Args:
        texts: as returned by `read_decoded`.

    Returns:
        `condition, subject, trial, instruction, prediction, other, reference`, in the order of `texts` and then of `other`.
    """
    references = texts[["subject", "instruction", "trial", "reference"]].drop_duplicates(["subject", "trial"])
    return texts.drop(columns="reference").merge(references.rename(columns={"trial": "other"}), on=["subject", "instruction"])


def score_pairs(
    pairs: pd.DataFrame, references: Mapping[str, Sequence[str]], bert_score: BertScore, encoder: SentenceEncoder, ways: Sequence[int]
) -> pd.DataFrame:
    """Compute the columns `statistics_columns(ways)` for each row of pairs; each distinct pair of texts is scored once.

    Args:
        pairs: as returned by `pairs_of`.
        references: captions of all test trials of each subject: CIDEr's documents, and the candidates of identification.
        bert_score, encoder: models.
        ways: numbers of candidates of identification.
    """
    distinct = pairs[PAIR].drop_duplicates(ignore_index=True)
    distinct = distinct.join(score(distinct["prediction"].tolist(), distinct["reference"].tolist(), bert_score))
    vectors = sentence_vectors({*pairs["prediction"], *(text for texts in references.values() for text in texts)}, encoder)
    scored = []
    for subject, captions in references.items():
        own = pairs[pairs["subject"] == subject]
        unique = own[PAIR].drop_duplicates(ignore_index=True)
        cider = caption_metrics.Cider(captions)(unique["prediction"].tolist(), unique["reference"].tolist())
        predictions, candidates = (list(dict.fromkeys(texts)) for texts in (own["prediction"], captions))
        similarity_PC = np.stack([vectors[p] for p in predictions]) @ np.stack([vectors[c] for c in candidates]).T
        row = (
            unique["prediction"].map({p: i for i, p in enumerate(predictions)}),
            unique["reference"].map({c: i for i, c in enumerate(candidates)}),
        )
        # Rounding in a matrix product depends on its shape: round to remove these differences.
        of_pairs = {"cider": cider, "sentence_similarity": (100 * similarity_PC[row]).round(6)}
        of_pairs |= {name: accuracy_PC[row] for name, accuracy_PC in identification(similarity_PC, ways).items()}
        scored.append(own.reset_index().merge(unique.assign(**of_pairs), on=PAIR).merge(distinct, on=PAIR).set_index("index"))
    return pd.concat(scored).loc[pairs.index, statistics_columns(ways)]


def write_scores(
    config: Config,
    *,
    decoded: Sequence[Path],
    captions: Sequence[Path],
    models_dir: Path,
    scores: Path,
    pairs: Path,
    described: str | None = None,
) -> None:
    """Score the decoded texts of all conditions and subjects of a data set.

    Args:
        config: the experiment.
        decoded: texts of each condition, `condition-C.parquet`.
        captions: tables of the test shards.
        models_dir: folder of the model folders.
        scores: output table, one row per condition, subject and trial: `condition, subject, trial, instruction, prediction,
            reference` and `statistics_columns` (docs/data.md); `read_signatures` reads from it how the metrics were computed.
        pairs: output table, one row per pair: `condition, subject, trial, other` and `statistics_columns`, as float32.
        described: the data set, if people's sentences about its clips are the references instead of the captions.

    Raises:
        UserError: files do not match each other, see `read_decoded`; an encoder is missing; see `against_people`.
    """
    texts, left_out = read_decoded(decoded, captions), pd.DataFrame()
    if described:
        texts, left_out = against_people(config, described, texts, captions)
    references = {str(s): t["reference"].tolist() for s, t in texts.drop_duplicates(["subject", "trial"]).groupby("subject")}
    bert_score = load_bert_score(config.evaluation, models_dir)
    encoder, ways = SentenceEncoder(models_dir / "sentence_encoder"), config.evaluation.identification_ways
    table = pairs_of(texts)
    table = table.join(score_pairs(table, references, bert_score, encoder, ways))
    statistics = statistics_columns(ways)
    own = table[table["trial"] == table["other"]]
    told: dict[bytes, Any] = {SIGNATURES: metric_signatures(bert_score, models_dir / "sentence_encoder")}
    if described:
        told[LEFT_OUT] = left_out.to_dict("records")
    elif warnings := warnings_of(captions):
        told[WARNINGS] = warnings
    _write(own[[*TRIAL, "instruction", *PAIR, *statistics]], scores, told)
    _write(table[[*TRIAL, "other", *statistics]].astype(dict.fromkeys(statistics, np.float32)), pairs, {})


def warnings_of(captions: Sequence[Path]) -> list[str]:
    """Return what a reader of scores against these captions must know: that the captioner does not know the clips, if so."""
    tables = [pd.read_parquet(path) for path in captions]
    clips = {clip for table in tables for clip in table["stim_file"]}
    unlike = {clip for table in tables for clip in table.attrs.get("captioner", {}).get("unlike", [])}
    return [warning(sorted(unlike), len(clips))] if unlike else []


def _write(table: pd.DataFrame, path: Path, told: Mapping[bytes, Any]) -> None:
    content = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**content.schema.metadata, **{name: json.dumps(value).encode() for name, value in told.items()}}
    with atomic(path) as part:
        pq.write_table(content.replace_schema_metadata(metadata), part)
