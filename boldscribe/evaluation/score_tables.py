"""Reading and checking of score tables: conditions are comparable only with the same trials, references and pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldscribe.evaluation.statistics import Floats, metrics_of, trial_statistics
from boldscribe.machinery.errors import UserError

# In the metadata of the scores' schema; the others only if there are any.
SIGNATURES, WARNINGS, LEFT_OUT = b"signatures", b"warnings", b"left out"
# Pairs are stored in single precision.
ROUNDING = 1e-3
AGAIN = "run the scores stage again"
TRIAL = ["subject", "trial"]


@dataclass(frozen=True)
class Subject:
    """Statistics of a subject under all conditions C.

    Attributes:
        statistics_TCK: of its trials T (`trial_statistics`).
        pairs_PCK: of each text against the reference of each trial of the same instruction.
        pair_of: (T, T) index in `pairs_PCK` of a trial's text with another's reference; -1 if their instructions differ.
        instructions: of its trials.
        clips: that its trials show.
    """

    statistics_TCK: Floats
    pairs_PCK: Floats
    pair_of: NDArray[np.int64]
    instructions: list[str]
    clips: list[str]


def read_scores(paths: Sequence[Path], subjects: Sequence[str], conditions: Sequence[str]) -> pd.DataFrame:
    """Read the scores of the given subjects and conditions, ordered by subject, condition and trial.

    Args:
        paths: of a data set, or of each of its folds.

    Raises:
        UserError: a subject or condition is missing, trials are given twice, or conditions have different trials or references.
    """
    where = ", ".join(map(str, paths))
    table = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    table = table[table["subject"].isin(subjects) & table["condition"].isin(conditions)]
    if repeated := sorted(set(table.loc[table.duplicated(["subject", "condition", "trial"]), "subject"])):
        raise UserError(where, f"trials of subject(s) {', '.join(repeated)} appear twice; {AGAIN}")
    for subject in subjects:
        of_subject = table[table["subject"] == subject]
        trials = {c: _trials(of_subject[of_subject["condition"] == c]) for c in conditions}
        for condition in conditions:
            if not trials[condition]:
                raise UserError(where, f"no scores of sub-{subject}, condition {condition}; {AGAIN}")
            if trials[condition] != trials["model"]:
                raise UserError(
                    where,
                    f"sub-{subject}: trials or references of condition {condition} differ from the model's, so they cannot be "
                    f"compared; {AGAIN}",
                )
    order = {c: i for i, c in enumerate(conditions)}
    return table.sort_values(
        ["subject", "condition", "trial"], key=lambda c: c.map(order) if c.name == "condition" else c, ignore_index=True
    )


def _trials(scores: pd.DataFrame) -> set[tuple[object, ...]]:
    return set(scores[["trial", "instruction", "reference"]].itertuples(index=False, name=None))


def read_subjects(
    paths: Sequence[Path], scores: pd.DataFrame, labels: Sequence[Path], subjects: Sequence[str], conditions: Sequence[str]
) -> list[Subject]:
    """Read the statistics of the subjects' trials and of all their pairs, in the order of `subjects`.

    Args:
        paths: the tables of pairs.
        scores: as returned by `read_scores`.
        labels: clips of the subjects' trials, and of others.

    Raises:
        UserError: pairs are missing, or do not match the scores; a trial without label.
    """
    where = ", ".join(map(str, paths))
    pairs = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    if lacking := [
        c for c in ("condition", "subject", "trial", "other", *metrics_of(scores.columns)[:-2]) if c not in pairs and c in scores
    ]:
        raise UserError(where, f"columns: {', '.join(lacking)} missing; {AGAIN}")
    order = {c: i for i, c in enumerate(conditions)}
    pairs = pairs[pairs["condition"].isin(conditions)].assign(place=lambda p: p["condition"].map(order))
    shown = pd.concat([pd.read_parquet(path, columns=["subject", "trial", "stim_file"]) for path in labels]).drop_duplicates()
    clips = scores[TRIAL].merge(shown, on=TRIAL, how="left")["stim_file"].set_axis(scores.index)
    if clips.isna().any():
        raise UserError(where, f"found {int(clips.isna().sum())} scores of trials without a label; write the labels and the scores again")
    scores = scores.assign(clip=clips)
    return [_subject(where, s, scores[scores["subject"] == s], pairs[pairs["subject"] == s], len(conditions)) for s in subjects]


def _subject(where: str, subject: str, scores: pd.DataFrame, pairs: pd.DataFrame, n_conditions: int) -> Subject:
    statistics_CTK = trial_statistics(scores).reshape(n_conditions, len(scores) // n_conditions, -1)
    of_model = scores[scores["condition"] == "model"]
    trials, instructions = of_model["trial"].to_numpy(), of_model["instruction"].tolist()
    same_TT = np.equal.outer(np.asarray(instructions), np.asarray(instructions))
    rows_P, columns_P = np.nonzero(same_TT)
    pairs = pairs.sort_values(["place", "trial", "other"])
    expected = pd.MultiIndex.from_arrays([np.tile(trials[rows_P], n_conditions), np.tile(trials[columns_P], n_conditions)])
    if not pd.MultiIndex.from_frame(pairs[["trial", "other"]]).equals(expected):
        raise UserError(
            where,
            f"sub-{subject}: found {len(pairs)} pairs, expected {len(expected)}: each text with the references of all trials of its "
            f"subject and instruction, in each condition; {AGAIN}",
        )
    pairs_CPK = trial_statistics(pairs).reshape(n_conditions, len(rows_P), -1)
    if not np.allclose(pairs_CPK[:, rows_P == columns_P], statistics_CTK, rtol=1e-5, atol=ROUNDING, equal_nan=True):
        raise UserError(where, f"sub-{subject}: scores of trials paired with their own references differ from the table of scores; {AGAIN}")
    pair_of = np.full(same_TT.shape, -1)
    pair_of[rows_P, columns_P] = np.arange(len(rows_P))
    clips = of_model["clip"].tolist()
    return Subject(statistics_CTK.transpose(1, 0, 2), pairs_CPK.transpose(1, 0, 2), pair_of, instructions, clips)


def read_signatures(path: Path) -> dict[str, str]:
    """Read from the table of scores how each metric was computed (`metric_signatures`).

    Raises:
        UserError: the table has no signatures.
    """
    stored = pq.read_schema(path).metadata or {}
    if SIGNATURES not in stored:
        raise UserError(str(path), f"found no signatures of the metrics; {AGAIN}")
    signatures: dict[str, str] = json.loads(stored[SIGNATURES])
    return signatures


def read_warnings(paths: Sequence[Path]) -> list[str]:
    """Read from tables of scores what their reader must know of the references (`warnings_of`), each warning once."""
    return list(dict.fromkeys(_told(paths, WARNINGS)))


def read_left_out(paths: Sequence[Path]) -> list[pd.DataFrame]:
    """Read from tables of scores which test trials have no reference (`against_people`): a table, or none if there are no such trials."""
    return [pd.DataFrame(found)] if (found := _told(paths, LEFT_OUT)) else []


def _told(paths: Sequence[Path], name: bytes) -> list[Any]:
    return [entry for path in paths for entry in json.loads((pq.read_schema(path).metadata or {}).get(name, b"[]"))]
