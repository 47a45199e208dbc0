"""What was seen and what was read from the brain: examples chosen by a rule, never by hand."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from boldscribe.errors import UserError
from boldscribe.evaluation.typeset import CONDITIONS
from boldscribe.files import load_array

RULE = (
    "Per subject, the trials with the model's best, median and worst BERTScore (of equal ones, the first trial): a rule, not a choice. "
    "Read the median first."
)
STRIP_HEIGHT = 112  # pixels


@dataclass(frozen=True)
class Example:
    """A trial of the gallery."""

    rank: str
    subject: str
    trial: int
    action: str
    strip: str
    reference: str
    prediction: str
    bertscore: float
    identification_2way: float
    controls: list[tuple[str, str]]


def examples(scores: pd.DataFrame, labels: pd.DataFrame, frames: Sequence[Path]) -> list[Example]:
    """Best, median and worst trial of each subject, with the frames of its clip.

    Args:
        scores: per-trial scores of one data set, all subjects and conditions.
        labels: `subject, trial, stim_file, action` of the same trials.
        frames: frame arrays of the test shards (docs/data.md).

    Raises:
        UserError: a trial without label, or a clip without frames.
    """
    shards = [load_array(path) for path in frames]
    place = {clip: (array, i) for array, header in shards for i, clip in enumerate(header["clips"])}
    found = []
    for subject, of_subject in scores[scores["condition"] == "model"].groupby("subject"):
        for rank, row in _chosen(of_subject).items():
            label = labels[(labels["subject"] == subject) & (labels["trial"] == row["trial"])]
            if len(label) != 1:
                raise UserError("labels", f"found {len(label)} rows for sub-{subject}, trial {row['trial']}, expected one")
            clip = label["stim_file"].iloc[0]
            if clip not in place:
                raise UserError(", ".join(map(str, frames)), f"no frames of {clip}; run the frames stage for the test shards again")
            array, i = place[clip]
            others = scores[(scores["subject"] == subject) & (scores["trial"] == row["trial"]) & (scores["condition"] != "model")]
            found.append(
                Example(
                    rank=rank,
                    subject=str(subject),
                    trial=int(row["trial"]),
                    action=str(label["action"].iloc[0]),
                    strip=_strip(array[i]),
                    reference=row["reference"],
                    prediction=row["prediction"],
                    bertscore=row["bertscore"],
                    identification_2way=row["identification_2way"],
                    controls=[(CONDITIONS.get(c, c), text) for c, text in zip(others["condition"], others["prediction"], strict=True)],
                )
            )
    return found


def _chosen(of_subject: pd.DataFrame) -> dict[str, pd.Series]:
    """Best, median and worst trial; fewer than three trials fill the ranks in this order."""
    ranked = of_subject.sort_values(["bertscore", "trial"], ascending=[False, True], ignore_index=True)
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": int(ranked["bertscore"].argmin())}
    taken: dict[int, str] = {}
    for rank, i in places.items():
        taken.setdefault(i, rank)
    return {rank: ranked.iloc[i] for i, rank in taken.items()}


def _strip(frames: np.ndarray) -> str:
    """The frames of a clip (T, size, size, 3) side by side, as a JPEG data URI."""
    images = [Image.fromarray(np.asarray(frame)).resize((STRIP_HEIGHT, STRIP_HEIGHT), Image.Resampling.LANCZOS) for frame in frames]
    strip = Image.fromarray(np.hstack([np.asarray(image) for image in images]))
    buffer = BytesIO()
    strip.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
