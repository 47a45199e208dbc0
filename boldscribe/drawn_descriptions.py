"""Descriptions of clips in an order that is drawn with the seed: which of several is learnt, said by `human`, or the reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from boldscribe.config import Config
from boldscribe.descriptions import descriptions_of
from boldscribe.machinery.reproducible import generator


def shuffled(config: Config, dataset: str, texts: Sequence[str], *purpose: str | int) -> list[str]:
    """Return texts in an order that is drawn for a purpose with the seed, the same in all folds of the data set."""
    rng = generator(config.seed, "given captions", config.whole(dataset), *purpose)
    return [texts[i] for i in rng.permutation(len(texts))]


def drawn_descriptions(config: Config, dataset: str, clips: Iterable[str]) -> dict[str, list[str]]:
    """Return clip → its descriptions in the file, in an order that is drawn for the clip, not for a trial.

    The condition `human` says the first. The last is the reference: another one, where the clip has two.

    Raises:
        UserError: see `read_descriptions`.
    """
    design = config.datasets[dataset]
    found = descriptions_of(clips, str(design.description_file), design.stimulus_manifest, by_bare_name=design.numbers_clips)
    return {clip: shuffled(config, dataset, texts, clip) for clip, texts in found.items()}
