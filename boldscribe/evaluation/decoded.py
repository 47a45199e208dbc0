"""Decoded texts of all conditions next to their references, trial by trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.machinery.errors import UserError

KEY = ["subject", "trial"]


def read_decoded(decoded: Sequence[Path], captions: Sequence[Path]) -> pd.DataFrame:
    """Read the texts of all conditions: `condition, subject, trial, instruction, prediction, reference`.

    Rows are in the order of `decoded`, then of subjects and trials. The test captions define the set of trials: a condition with a
    missing trial would be scored on easier trials than the others.

    Args:
        decoded: `condition-C.parquet` of each condition: `subject, trial, instruction, prediction`.
        captions: tables of the test shards: `subject, trial, instruction, text`.

    Raises:
        UserError: a caption or a decoded trial is repeated; a trial is missing, has no reference, or has another instruction than
            its reference; a text is null.
    """
    references = _read_references(captions)
    return pd.concat([_read_condition(path, references) for path in decoded], ignore_index=True)


def _read_references(captions: Sequence[Path]) -> pd.DataFrame:
    """Read the captions of the test trials: `subject, trial, instruction, reference`."""
    where = ", ".join(map(str, captions))
    table = pd.concat([pd.read_parquet(path) for path in captions])
    if table.empty:
        raise UserError(where, "found no caption; run the captions stage for the test shards")
    if table["text"].isna().any():
        raise UserError(where, "column text has null values; run the captions stage for the test shards again")
    if found := _trials(table[table.duplicated(KEY)]):
        raise UserError(where, f"{found}: found several captions, expected one each; run the captions stage for the test shards again")
    return table[[*KEY, "instruction", "text"]].rename(columns={"text": "reference"}).sort_values(KEY, ignore_index=True)


def _read_condition(path: Path, references: pd.DataFrame) -> pd.DataFrame:
    """Read a condition's decoded texts and add their references."""
    name = re.fullmatch(r"condition-([a-z]+)\.parquet", path.name)
    if name is None:
        raise UserError(str(path), "expected a file named condition-NAME.parquet")
    condition = f"condition {name[1]}"
    table = pd.read_parquet(path)
    if found := _trials(table[table.duplicated(KEY)]):
        raise UserError(str(path), f"{condition}, {found}: repeated; decode this condition again")
    merged = table.merge(references, on=KEY, how="outer", suffixes=("", "_of_reference"), indicator="found", validate="one_to_one")
    if found := _trials(merged[merged["found"] == "left_only"]):
        raise UserError(str(path), f"{condition}, {found}: no reference caption; run the captions stage for the test shards again")
    if found := _trials(merged[merged["found"] == "right_only"]):
        raise UserError(str(path), f"{condition}, {found}: not decoded, expected all test trials; decode this condition again")
    if found := _trials(merged[merged["prediction"].isna()]):
        raise UserError(str(path), f"{condition}, {found}: column prediction is null; write an empty answer as an empty text")
    if found := _trials(merged[merged["instruction"] != merged["instruction_of_reference"]]):
        raise UserError(str(path), f"{condition}, {found}: the instruction differs from the reference's; decode this condition again")
    columns = ["condition", *KEY, "instruction", "prediction", "reference"]
    return merged.assign(condition=name[1]).sort_values(KEY, ignore_index=True)[columns]


def _trials(rows: pd.DataFrame) -> str:
    """List the trials of some rows, at most 5 of each subject; empty if there are none."""
    named = []
    for subject, group in rows.groupby("subject"):
        trials = sorted(set(group["trial"]))
        more = f" and {len(trials) - 5} more" if len(trials) > 5 else ""
        named.append(f"sub-{subject} trial(s) {', '.join(map(str, trials[:5]))}{more}")
    return "; ".join(named)
