"""Ceilings that a data set cannot have: no text of theirs is given, or none that is not the reference."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from boldscribe.config.data_settings import Dataset
from boldscribe.descriptions import DESCRIPTIONS, described_once


def without_column(design: Dataset, possible: Iterable[str], references: str) -> dict[str, str]:
    """Return whether the events' lack of descriptions leaves `human` without a text, or without one that is not the reference."""
    if DESCRIPTIONS not in possible:
        return {"human": "the data set has no descriptions of its clips (description_column)"}
    once = _described_once(design) if references == DESCRIPTIONS else ""
    return {"human": f"{once}, which is the reference"} if once else {}


def without_captioner(design: Dataset) -> dict[str, str]:
    """Return the ceilings that given captions leave none of: another caption of the clip, and a description that is not the reference."""
    if design.description_file is None:
        return {
            "captioner": "the captions are given, one for each trial",
            "human": "the data set's descriptions are the references themselves",
        }
    once = _described_once(design)
    return {"captioner": f"the captions are given, and {once}"} if once else {}


def _described_once(design: Dataset) -> str:
    """State the clips that have one description only (`described_once`); empty if there is none, or the file is yet to be fetched."""
    path = design.description_file
    return described_once(path) if path and (Path(path).exists() or not design.fetches(path)) else ""
