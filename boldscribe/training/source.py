"""Trials of the source subjects, and a guard against data of target subjects where labels are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError


def check_source_only(config: Config, dataset: str, table: pd.DataFrame, what: str = "trials") -> None:
    """Refuse a table with rows of subjects other than source subjects.

    The paper promises that no video, caption or label of the target domain is read in training. The rules already pass none; this
    is a second check.

    Raises:
        UserError: names the subjects.
    """
    allowed = set(config.datasets[dataset].train_subjects)
    if foreign := sorted(set(table["subject"]) - allowed):
        raise UserError(
            f"{what} of {dataset}",
            f"subject: found {', '.join(foreign)}, expected source subjects only ({', '.join(sorted(allowed))}): "
            "no label, clip or caption of a target subject may be opened in training",
        )
    if "role" in table and (roles := sorted(set(table["role"]) - {"train"})):
        raise UserError(f"{what} of {dataset}", f"role: found {', '.join(roles)}, expected 'train' only; write the trials again")


def source_trials(config: Config, dataset: str, trials: Sequence[Path], labels: Sequence[Path]) -> pd.DataFrame:
    """Read the trials of the source subjects with `stim_file` and `action`, ordered by subject and trial.

    Raises:
        UserError: a row is of a target subject, or a trial has no label (or a label no trial).
    """
    index, known = (pd.concat([pd.read_parquet(p) for p in paths]) for paths in (trials, labels))
    check_source_only(config, dataset, index)
    check_source_only(config, dataset, known, "labels")
    table = index.merge(known, on=["subject", "trial"], validate="one_to_one")
    if not len(table) == len(index) == len(known):
        raise UserError(
            ", ".join(map(str, labels)),
            f"found {len(known)} labels for {len(index)} trials, of which {len(table)} match, expected one label for "
            "each trial; write trials and labels again",
        )
    return table.sort_values(["subject", "trial"]).reset_index(drop=True)
