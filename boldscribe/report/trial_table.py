"""All trials under all conditions, packed once for the page's search.

Conditions share trials, references and most texts, so each text is stored once and referenced by its index; scores are rounded. The
result is compressed, since decoded texts are very similar. Browsers unpack it natively (`DecompressionStream`).
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.evaluation.metrics import title_of

SCORES = ("bertscore", "rouge_l_f", "sentence_similarity", "identification_2way")
DECIMALS = 1


@dataclass(frozen=True)
class PackedTrials:
    """All trials of a data set.

    Attributes:
        packed: JSON, gzip, base64.
        metrics: titles of the scores that each row has.
        conditions: (name, title) of the packed conditions, the model first.
        left_out: titles of the conditions that would have made the page too large.
        rows: the model's subject, trial, prediction, reference and scores, for readers without JavaScript.
        n_trials: number of trials.
        subjects: their labels.
    """

    packed: str
    metrics: list[str]
    conditions: list[tuple[str, str]]
    left_out: list[str]
    rows: list[dict[str, Any]]
    n_trials: int
    subjects: list[str]


def pack_trials(scores: pd.DataFrame, labels: pd.DataFrame, *, largest: int) -> PackedTrials:
    """Pack the trials of a data set, dropping conditions from the end of the table order while the pack is too large.

    Args:
        scores: per-trial scores of all subjects and conditions.
        labels: `subject, trial, action` of the same trials.
        largest: maximum length of the pack in characters.
    """
    table = scores.merge(labels[["subject", "trial", "action"]], on=["subject", "trial"], how="left").fillna({"action": ""})
    metrics = [m for m in SCORES if m in table]
    trials = table[table["condition"] == "model"].sort_values(["subject", "trial"], ignore_index=True)
    names = [c for c in CONDITIONS if c in set(table["condition"])]
    for n_kept in range(len(names), 0, -1):
        packed = _compressed(_content(table, trials, names[:n_kept], metrics))
        if len(packed) <= largest or n_kept == 1:
            break
    return PackedTrials(
        packed=packed,
        metrics=[title_of(m) for m in metrics],
        conditions=[(c, CONDITIONS[c].title) for c in names[:n_kept]],
        left_out=[CONDITIONS[c].title for c in names[n_kept:]],
        rows=[{**{str(k): v for k, v in row.items()}, "scores": [row[m] for m in metrics]} for row in trials.to_dict("records")],
        n_trials=len(trials),
        subjects=sorted(set(trials["subject"])),
    )


def _content(table: pd.DataFrame, trials: pd.DataFrame, names: list[str], metrics: list[str]) -> dict[str, Any]:
    """Return `trials`: [subject, trial, action, reference]; `conditions`: name → texts, scores by trial. Texts are indices into `texts`."""
    places: dict[str, int] = {}

    def place(texts: pd.Series) -> list[int]:
        return [places.setdefault(str(text), len(places)) for text in texts]

    key = pd.MultiIndex.from_frame(trials[["subject", "trial"]])
    columns = [trials["subject"].tolist(), trials["trial"].tolist(), place(trials["action"]), place(trials["reference"])]
    conditions = {}
    for name in names:
        own = table[table["condition"] == name].set_index(["subject", "trial"]).reindex(key)
        values = own[metrics].astype(float).round(DECIMALS)
        conditions[name] = {
            "title": CONDITIONS[name].title,
            "texts": place(own["prediction"].fillna("")),
            "scores": [[None if pd.isna(value) else value for value in values[m]] for m in metrics],
        }
    return {"trials": columns, "conditions": conditions, "texts": list(places)}


def _compressed(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
