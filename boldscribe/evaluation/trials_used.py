"""Trials behind a table: those whose clips source subjects also saw, and those that are excluded, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.evaluation.leakage import overlap
from boldscribe.machinery.errors import UserError


def trials_sentence(config: Config, dataset: str, labels: Sequence[Path], scored: pd.DataFrame, excluded: pd.DataFrame) -> str:
    """Join `overlap_sentence` and `left_out_sentence`."""
    return f"{overlap_sentence(config, dataset, labels, scored)} {left_out_sentence(config, dataset, labels, excluded)}"


def overlap_sentence(config: Config, dataset: str, labels: Sequence[Path], scored: pd.DataFrame) -> str:
    """State how many scored clips, and videos that they were cut from, also belong to source subjects' trials.

    On those, a decoder may recognise what it was trained on.

    Args:
        labels: `subject, trial, stim_file, source` of all subjects of the data set.
        scored: `subject, trial` of the scored trials.

    Raises:
        UserError: labels of a source subject, or of a scored trial, are missing.
    """
    folds = [_overlap(config, fold, _of_fold(labels, fold, config), scored) for fold in config.folds(dataset)]
    n_test, seen, related = (sum(numbers) for numbers in zip(*folds, strict=True))
    cut = f" Those of {related} were cut from a video of which source subjects saw another part." if related else ""
    if not seen:
        return f"No trial that was trained on shows a clip of the {n_test} test trials.{cut}"
    return (
        cut.strip()
        + (" " if cut else "")
        + (
            f"The clips of {seen} of the {n_test} test trials were shown to source subjects too, whose fMRI and captions of them were "
            "trained on: to decode them can be to recognise a known clip in a new brain, not to describe a new one."
        )
    )


def _of_fold(labels: Sequence[Path], fold: str, config: Config) -> list[Path]:
    """Return the files of a fold, identified by their folder, or all files if there are no folds."""
    return [path for path in labels if path.parent.name == fold] if config.datasets[fold].fold_of else list(labels)


def _overlap(config: Config, fold: str, labels: Sequence[Path], scored: pd.DataFrame) -> tuple[int, int, int]:
    """Count the overlap in a fold, or in a data set without folds.

    Returns:
        numbers of scored trials, of those whose clip source subjects saw, and of those of whose video they saw only another part.
    """
    design, where = config.datasets[fold], f"labels of {fold}"
    if not labels:
        raise UserError(where, "no file given; give the labels of all subjects")
    table = pd.concat([pd.read_parquet(p) for p in labels], ignore_index=True)
    if absent := sorted(set(design.train_subjects) - set(table["subject"])):
        raise UserError(where, f"found none of source subject(s) {', '.join(absent)}; give the labels of all subjects")
    test = scored.loc[scored["subject"].isin(design.validation_subjects), ["subject", "trial"]].drop_duplicates()
    test = test.merge(table, on=["subject", "trial"], how="left", validate="one_to_one")
    if lacking := int(test["stim_file"].isna().sum()):
        raise UserError(where, f"found none of {lacking} of {len(test)} scored trials; run the trials stage again")
    found = overlap(test, table[table["subject"].isin(design.train_subjects)], "training")
    return len(test), found.count("stimulus"), found.count("part")


def left_out_sentence(config: Config, dataset: str, labels: Sequence[Path], excluded: pd.DataFrame) -> str:
    """State how many trials of source subjects, and of target subjects' tests, are excluded, and why.

    Args:
        labels: of the included trials of all subjects.
        excluded: `subject, run, trial, role, reason` of the excluded trials; in a rotation, of all folds, in which a subject is a
            source several times.
    """
    sentences = []
    for side in ("source", "target"):
        missing = excluded[(excluded["role"] == "train") == (side == "source")].drop_duplicates(["subject", "trial", "reason"])
        trials = {*_trials(missing), *_kept(config, dataset, labels, side)}
        if n := len(_trials(missing)):
            reasons = ", ".join(f"{count} ({reason})" for reason, count in missing["reason"].value_counts().sort_index().items())
            where = " in at least one fold" if side == "source" and config.datasets[dataset].leave_out else ""
            sentences.append(f"Of the {len(trials)} trials of {side} subjects {n} are left out{where}: {reasons}.")
    return " ".join(sentences) or "No trial is left out."


def _trials(table: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(table["subject"], table["trial"], strict=True))


def _kept(config: Config, dataset: str, labels: Sequence[Path], side: str) -> set[tuple[str, int]]:
    """Return the included trials of the subjects who are sources, or targets, in any fold."""
    found: set[tuple[str, int]] = set()
    for fold in config.folds(dataset):
        design = config.datasets[fold]
        members = design.train_subjects if side == "source" else design.validation_subjects
        for path in _of_fold(labels, fold, config):
            table = pd.read_parquet(path, columns=["subject", "trial"])
            found |= _trials(table[table["subject"].isin(members)])
    return found
