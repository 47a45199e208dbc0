"""Scores of decoded texts against the video model's captions of the same clips (paper 4.2), per trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation.bertscore import BertScore
from boldscribe.evaluation.bleu import sentence_bleu
from boldscribe.evaluation.identification import identify
from boldscribe.files import atomic
from boldscribe.models.sentence_encoder import SentenceEncoder
from boldscribe.sections.training import Evaluation

SCORES = ["bertscore", "sacrebleu_1", "sacrebleu_2", "rouge_l_f", "rouge_l_p", "rouge_l_r"]
COLUMNS = ["subject", "trial", "condition", "prediction", "reference", *SCORES, "identification", "identification_2way"]


def score(predictions: Sequence[str], references: Sequence[str], bert_score: BertScore) -> pd.DataFrame:
    """Score texts pair by pair: the columns `SCORES`, in percent.

    - `bertscore`: F1, see `BertScore`. An empty text scores 0.
    - `sacrebleu_1`, `sacrebleu_2`: sentence-level sacreBLEU with n-grams up to that order, 13a tokenizer, cased.
    - `rouge_l_{f,p,r}`: ROUGE-L (Lin 2004) by rouge-score without stemming. Its tokens are runs of ASCII letters and digits,
      so that a text in another script scores 0.
    """
    scores = sentence_bleu(predictions, references)[["sacrebleu_1", "sacrebleu_2"]]
    rouge = RougeScorer(["rougeL"], use_stemmer=False)
    rouges = [rouge.score(reference, prediction)["rougeL"] for prediction, reference in zip(predictions, references, strict=True)]
    scores["rouge_l_f"] = [100 * r.fmeasure for r in rouges]
    scores["rouge_l_p"] = [100 * r.precision for r in rouges]
    scores["rouge_l_r"] = [100 * r.recall for r in rouges]
    scores["bertscore"] = bert_score(predictions, references)
    return scores[SCORES]


def load_bert_score(config: Evaluation, models_dir: Path) -> BertScore:
    """BERTScore with the configured encoder.

    Raises:
        UserError: its encoder or baseline is missing.
    """
    folder = models_dir / ("sentence_encoder" if config.bertscore_model == "embedded" else "bertscore_encoder")
    return BertScore(folder, config.bertscore_layer, Path(config.bertscore_baseline) if config.bertscore_baseline else None)


def write_scores(
    config: Config,
    dataset: str,
    subject: str,
    *,
    decoded: Sequence[Path],
    captions: Sequence[Path],
    models_dir: Path,
    outputs: Sequence[Path],
) -> None:
    """Score a target subject's decoded texts, all conditions with encoders that are loaded once.

    Writes for each condition a table with `COLUMNS` (docs/data.md), in the order of trials.

    Args:
        config: the experiment.
        dataset, subject: labels.
        decoded: texts of each condition, `sub-XX_condition-C.parquet`.
        captions: tables of the test shards: `subject, trial, text`, the reference of each trial.
        models_dir: folder of the model folders.
        outputs: one file per file of `decoded`, of the same name.

    Raises:
        UserError: files that do not fit each other; a trial that is repeated or has no reference; a missing encoder.
    """
    if [d.name for d in decoded] != [o.name for o in outputs]:
        raise UserError(
            "--scores", f"found {', '.join(o.name for o in outputs)}, expected one per decoded file: {', '.join(d.name for d in decoded)}"
        )
    references = _references(captions, dataset, subject)
    tables = [_with_references(path, references, subject) for path in decoded]
    bert_score = load_bert_score(config.evaluation, models_dir)
    encoder = SentenceEncoder(models_dir / "sentence_encoder")
    for table, output in zip(tables, outputs, strict=True):
        texts = table["prediction"].tolist(), table["reference"].tolist()
        table[SCORES] = score(*texts, bert_score)
        table["identification"], table["identification_2way"] = identify(*texts, encoder)
        with atomic(output) as part:
            table[COLUMNS].to_parquet(part, index=False)


def _references(captions: Sequence[Path], dataset: str, subject: str) -> pd.DataFrame:
    """The captions of a subject's test trials: `trial, reference`."""
    table = pd.concat([pd.read_parquet(p) for p in captions])
    table = table[table["subject"] == subject]
    if table.empty:
        raise UserError(", ".join(map(str, captions)), f"no caption of {dataset} sub-{subject}; run the captions stage for its test shards")
    if repeated := sorted(table.loc[table["trial"].duplicated(), "trial"]):
        raise UserError(", ".join(map(str, captions)), f"sub-{subject}: trial(s) {repeated[:5]} have several captions, expected one each")
    return table[["trial", "text"]].rename(columns={"text": "reference"})


def _with_references(path: Path, references: pd.DataFrame, subject: str) -> pd.DataFrame:
    """A condition's decoded texts beside their references, in the order of trials."""
    name = re.fullmatch(rf"sub-{subject}_condition-([a-z]+)\.parquet", path.name)
    if name is None:
        raise UserError(str(path), f"expected a file named sub-{subject}_condition-NAME.parquet")
    table = pd.read_parquet(path)
    if table.empty or set(table["subject"]) != {subject}:
        raise UserError(str(path), f"column subject: found {sorted(set(table['subject'])) or 'no row'}, expected {subject!r} alone")
    if repeated := sorted(table.loc[table["trial"].duplicated(), "trial"]):
        raise UserError(str(path), f"trial(s) {repeated[:5]} are repeated; decode this condition again")
    if missing := sorted(set(table["trial"]) - set(references["trial"])):
        raise UserError(str(path), f"trial(s) {missing[:5]} have no reference caption; run the captions stage for the test shards again")
    if missing := sorted(set(references["trial"]) - set(table["trial"])):
        raise UserError(str(path), f"test trial(s) {missing[:5]} of sub-{subject} were not decoded; decode this condition again")
    if table["prediction"].isna().any():
        raise UserError(str(path), "column prediction has null values; an empty answer is an empty text")
    merged = table.merge(references, on="trial", validate="one_to_one").sort_values("trial", ignore_index=True)
    return merged.assign(condition=name[1])
