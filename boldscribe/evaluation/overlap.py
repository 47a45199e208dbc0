"""Which test clips the source subjects saw too: there, a decoder may recognise a clip that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.errors import UserError


def overlap_sentence(config: Config, dataset: str, labels: Sequence[Path], scored: pd.DataFrame) -> str:
    """How many of the scored clips belong to source subjects' trials too.

    Args:
        labels: `subject, trial, stim_file` of all subjects of the data set.
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
    seen = int(test["stim_file"].isin(table.loc[table["subject"].isin(sources), "stim_file"]).sum())
    if not seen:
        return f"No clip of the {len(test)} test trials was shown to a source subject."
    return (
        f"The clips of {seen} of the {len(test)} test trials were shown to source subjects too, whose fMRI and captions of them were "
        "trained on: to decode them can be to recognise a known clip in a new brain, not to describe a new one."
    )
