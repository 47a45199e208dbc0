"""Captions that the data set gives: descriptions of its clips instead of a captioner's answers (`captioner.kind: given`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.descriptions import descriptions_of
from boldscribe.drawn_descriptions import shuffled
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.stimuli.captions import COLUMNS
from boldscribe.stimuli.shards import clips_of_shard, records


def write_given_captions(
    config: Config,
    dataset: str,
    split: str,
    shard: int,
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    output: Path,
    again: bool = False,
) -> None:
    """Write the given descriptions of a shard's clips in the form of `write_captions`, whatever a record's instruction.

    Of several descriptions of a clip, one is drawn: in training for each trial, in testing for each clip, so that all trials that show
    it have one reference. The column `others` lists the rest. Descriptions of the events (`description_column`) are their trial's own.

    Args:
        config: the experiment.
        dataset, split, shard: select the clips.
        trials, labels: of the split's subjects.
        output: the table.
        again: draw another description of the same clip, for the agreement of descriptions with each other.

    Raises:
        UserError: a trial has no description, or no other one for `again`.
    """
    table = records(trials, labels, split)
    table = table[table["stim_file"].isin(clips_of_shard(table, shard, config.stimuli.shards))].reset_index(drop=True)
    given = _texts(config, dataset, table)
    lacking = [clip for clip, texts in zip(table["stim_file"], given, strict=True) if len(texts) < 1 + again]
    if lacking:
        wanted = "second description" if again else "description"
        raise UserError(
            f"captions of {dataset}",
            f"{', '.join(list(dict.fromkeys(lacking))[:3])}: found no {wanted}, expected one for each of {len(table)} trials; complete the "
            "descriptions, and write the trials again",
        )
    drawn = [
        shuffled(config, dataset, texts, clip, *((subject, int(trial)) if split == "train" else ()))
        for texts, clip, subject, trial in zip(given, table["stim_file"], table["subject"], table["trial"], strict=True)
    ]
    table["text"] = [texts[int(again)] for texts in drawn]
    table["others"] = pd.Series([[text for text in texts if text != texts[int(again)]] for texts in drawn], dtype=object)
    captions = table[[*COLUMNS, "others"]]
    captions.attrs["captioner"] = {"kind": "given", "author": config.captioner.author}
    with atomic(output) as part:
        captions.to_parquet(part, index=False)


def _texts(config: Config, dataset: str, table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the descriptions of each trial's clip."""
    design = config.datasets[dataset]
    if design.description_file is None:
        return [(text,) if text else () for text in table["description"].fillna("").str.strip()]
    found = descriptions_of(
        table["stim_file"].unique(), design.description_file, design.stimulus_manifest, by_bare_name=design.numbers_clips
    )
    return [found[clip] for clip in table["stim_file"]]
