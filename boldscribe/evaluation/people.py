"""Sentences that people wrote of the clips, as references in place of the captioner's captions (docs/captioners.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.data.reasons import UNDESCRIBED
from boldscribe.drawn_descriptions import drawn_descriptions
from boldscribe.evaluation.decoded import KEY
from boldscribe.machinery.errors import UserError


def against_people(config: Config, dataset: str, texts: pd.DataFrame, captions: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replace the references of decoded texts by a sentence of each clip, and leave out trials whose clip has none.

    Args:
        config: the experiment (`datasets.*.description_file`, `seed`).
        dataset: name in `config.datasets`.
        texts: as returned by `read_decoded`.
        captions: tables of the test shards, which name the clip of each trial.

    Returns:
        the texts in their order, and the trials that are left out: `subject, trial, role, reason, detail` (the clip).

    Raises:
        UserError: no test clip of a subject has a description.
    """
    clips = pd.concat([pd.read_parquet(path, columns=[*KEY, "stim_file"]) for path in captions], ignore_index=True)
    drawn = drawn_descriptions(config, dataset, clips["stim_file"].unique())
    clips["reference"] = [drawn[clip][-1] if drawn[clip] else None for clip in clips["stim_file"]]
    known, lacking = clips[clips["reference"].notna()], clips[clips["reference"].isna()].sort_values(KEY)
    if absent := sorted(set(clips["subject"]) - set(known["subject"])):
        raise UserError(
            str(config.datasets[dataset].description_file),
            f"found no description of any test clip of sub-{', sub-'.join(absent)}, such as {lacking['stim_file'].iloc[0]}, expected some "
            "of each target subject's; complete it",
        )
    left_out = lacking[KEY].assign(role="test", reason=UNDESCRIBED, detail=lacking["stim_file"])
    return texts.drop(columns="reference").merge(known[[*KEY, "reference"]], on=KEY), left_out.reset_index(drop=True)
