"""Captions of an instruction: the style of a caption follows the question."""

from __future__ import annotations

import pandas as pd

ANY = ""  # stands for any action


def asked(captions: pd.DataFrame, instruction: str, enough: int = 1) -> pd.DataFrame:
    """Captions of an instruction, whose style depends on it; of any where there are fewer than enough of this."""
    same = captions[captions["instruction"] == instruction]
    return same if len(same) >= enough else captions
