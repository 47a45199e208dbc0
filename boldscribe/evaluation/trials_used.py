"""What a table's trials are: which of their clips the source subjects saw too, and which trials are left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation.leakage import overlap


def trials_sentence(config: Config, dataset: str, labels: Sequence[Path], scored: pd.DataFrame, excluded: pd.DataFrame) -> str:
    """What `overlap_sentence` and `left_out_sentence` say."""
    return f"{overlap_sentence(config, dataset, labels, scored)} {left_out_sentence(config, dataset, labels, excluded)}"


def overlap_sentence(config: Config, dataset: str, labels: Sequence[Path], scored: pd.DataFrame) -> str:
    """How many of the scored clips, and of the videos that they were cut from, belong to source subjects' trials too.

    There, a decoder may recognise what it was trained on.

    Args:
        labels: `subject, trial, stim_file, source` of all subjects of the data set.
        scored: `subject, trial` of the scored trials.

    Raises:
        UserError: labels of a source subject, or of a scored trial, are missing.
    """
    table = pd.concat([pd.read_parquet(p) for p in labels], ignore_index=True)
    where, sources = f"labels of {dataset}", config.datasets[dataset].train_subjects
    if absent := sorted(set(sources) - set(table["subject"])):
        raise UserError(where, f"found none of source subject(s) {', '.join(absent)}; give the labels of all subjects")
    test = scored[["subject", "trial"]].drop_duplicates().merge(table, on=["subject", "trial"], how="left", validate="one_to_one")
    if lacking := int(test["stim_file"].isna().sum()):
        raise UserError(where, f"found none of {lacking} of {len(test)} scored trials; run the trials stage again")
    found = overlap(test, table[table["subject"].isin(sources)], "training")
    seen, related = found.count("stimulus"), found.count("part")
    cut = f" Those of {related} were cut from a video of which source subjects saw another part." if related else ""
    if not seen:
        return f"No clip of the {len(test)} test trials was shown to a source subject.{cut}"
    return (
        cut.strip()
        + (" " if cut else "")
        + (
            f"The clips of {seen} of the {len(test)} test trials were shown to source subjects too, whose fMRI and captions of them were "
            "trained on: to decode them can be to recognise a known clip in a new brain, not to describe a new one."
        )
    )


def left_out_sentence(config: Config, dataset: str, labels: Sequence[Path], excluded: pd.DataFrame) -> str:
    """How many trials of source subjects, and of target subjects' tests, take no part, and why.

    Args:
        labels: of the trials that take part, of all subjects.
        excluded: `subject, run, trial, role, reason` of those that do not.
    """
    design = config.datasets[dataset]
    kept = pd.concat([pd.read_parquet(p, columns=["subject"]) for p in labels], ignore_index=True)["subject"]
    sentences = []
    for side, members in (("source", design.train_subjects), ("target", design.validation_subjects)):
        missing = excluded[excluded["subject"].isin(members)]
        total = int(kept.isin(members).sum()) + len(missing)
        if len(missing):
            reasons = ", ".join(f"{count} ({reason})" for reason, count in missing["reason"].value_counts().sort_index().items())
            sentences.append(f"Of the {total} trials of {side} subjects {len(missing)} are left out: {reasons}.")
    return " ".join(sentences) or "No trial is left out."
