"""Inputs that a condition is decoded from: the target subjects' test trials, and the files that it may open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.reproducible import generator
from boldscribe.training.source import check_source_only

# Inputs behind a name of `Condition.reads`, where it is not just the input of that name.
BEHIND = {
    "llm": {"models"},
    "series": {"series", "voxels"},
    "source_series": {"source_series", "source_voxels"},
    "source_labels": {"source_labels", "source_trials"},
}

ANY = ""  # any action, in the table of the best captions


def inputs_of(condition: str) -> set[str]:
    """Return the names of the inputs that a condition is given besides the trial indices."""
    return {name for read in CONDITIONS[condition].reads for name in BEHIND.get(read, {read})}


@dataclass(frozen=True)
class Task:
    """Trials to decode under a condition, and the files that the condition may open.

    Attributes:
        config, dataset, condition: of the experiment.
        trials: trial indices of the target subjects.
        files: further inputs by name, as in `Condition.reads` and the rule `decode`; `models` are the model folders.
    """

    config: Config
    dataset: str
    condition: str
    trials: Sequence[Path]
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def check_inputs(self) -> None:
        """Check the given inputs against those that the condition reads.

        Raises:
            UserError: the condition is unknown, a required input is missing, or one is given that it may not open.
        """
        if self.condition not in CONDITIONS:
            raise UserError("condition", f"found {self.condition!r}, expected one of {', '.join(CONDITIONS)}")
        expected = inputs_of(self.condition)
        given = {name for name, paths in self.files.items() if paths} - {"trials"}
        where = f"condition {self.condition!r}"
        if foreign := sorted(given - expected):
            raise UserError(where, f"found the inputs {', '.join(foreign)}, which it may not open; remove them")
        if missing := sorted(expected - given):
            raise UserError(where, f"found no {', '.join(missing)}, which it reads; pass them")

    def one(self, name: str) -> Path:
        """Return the only file of that name.

        Raises:
            UserError: none or several were given.
        """
        if len(paths := self.files.get(name, [])) != 1:
            raise UserError(f"--{name.replace('_', '-')}", f"found {len(paths)} files, expected one for condition {self.condition!r}")
        return paths[0]

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """Return a random number generator for this condition and data set."""
        return generator(self.config.seed, self.condition, self.dataset, *purpose)

    def of_role(self, role: str) -> pd.DataFrame:
        """Return the target subjects' trials of a role, ordered by subject and trial.

        Raises:
            UserError: a target subject has none.
        """
        index = pd.concat([pd.read_parquet(path) for path in self.trials])
        rows = index[index["role"] == role].sort_values(["subject", "trial"], ignore_index=True)
        wanted = self.config.datasets[self.dataset].validation_subjects
        if absent := sorted(set(wanted) - set(rows["subject"])):
            setting = "test_runs" if role == "test" else "adaptation_runs"
            raise UserError(
                ", ".join(map(str, self.trials)),
                f"role: found no trial with {role!r} for sub-{', sub-'.join(absent)}; set {setting} in the configuration",
            )
        return rows

    @cached_property
    def test(self) -> pd.DataFrame:
        """Test trials of the target subjects, ordered by subject and trial."""
        return self.of_role("test")

    @cached_property
    def seen(self) -> pd.DataFrame:
        """Test trials with their labels."""
        return self.test_with("test_labels")

    def test_with(self, name: str) -> pd.DataFrame:
        """Join the test trials, in their order, with the further columns of an input's tables.

        Raises:
            UserError: a trial is missing from those tables, or repeated.
        """
        tables = pd.concat([pd.read_parquet(path) for path in self.files[name]])
        return _joined(self.test, tables[[c for c in tables if c in ("subject", "trial") or c not in self.test]], self.files[name])

    @cached_property
    def source(self) -> pd.DataFrame:
        """Captions of the source trials: `subject, trial, stim_file, instruction, text`, ordered by subject and trial.

        Raises:
            UserError: there are none, or captions of a target subject.
        """
        return source_captions(self.config, self.dataset, self.files["source_captions"])

    @cached_property
    def labelled_source(self) -> pd.DataFrame:
        """Captions of the source trials (`source`) with the trials' `action`.

        Raises:
            UserError: labels of a target subject, or a trial without a label.
        """
        return labelled(self.config, self.dataset, self.source, self.files["source_labels"])


def source_captions(config: Config, dataset: str, paths: Sequence[Path]) -> pd.DataFrame:
    """Read the captions of source trials from tables of shards, ordered by subject and trial.

    Raises:
        UserError: there are none, or captions of a target subject.
    """
    table = pd.concat([pd.read_parquet(path) for path in paths])
    check_source_only(config, dataset, table, "captions")
    if table.empty:
        raise UserError(f"captions of {dataset}", "found none for source trials, expected at least one; write the captions again")
    return table.sort_values(["subject", "trial"], ignore_index=True)


def asked(captions: pd.DataFrame, instruction: str, enough: int = 1) -> pd.DataFrame:
    """Return the captions of an instruction, which sets their style, or all captions if it has fewer than `enough`."""
    same = captions[captions["instruction"] == instruction]
    return same if len(same) >= enough else captions


def labelled(config: Config, dataset: str, captions: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """Add the trials' `action`, from tables of labels, to captions of source trials.

    Raises:
        UserError: labels of a target subject, or a trial without a label.
    """
    labels = pd.concat([pd.read_parquet(path) for path in paths])
    check_source_only(config, dataset, labels, "labels")
    return _joined(captions, labels[["subject", "trial", "action"]], paths)


def _joined(trials: pd.DataFrame, further: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """Join trials with the columns that further tables have for them."""
    keys = ["subject", "trial"]
    where = ", ".join(map(str, paths))
    if further.duplicated(keys).any():
        raise UserError(where, "found a trial twice, expected one row per trial; write the tables again")
    merged = trials.merge(further, on=keys, how="left", indicator=True)
    if lacking := int((merged["_merge"] == "left_only").sum()):
        raise UserError(where, f"found no row for {lacking} of {len(trials)} trials; write the tables again")
    return merged.drop(columns="_merge")
