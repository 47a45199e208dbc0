"""Gallery of seen clips and decoded texts: examples chosen by a rule or at random, never by hand."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from boldscribe.conditions import CONDITIONS
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array
from boldscribe.machinery.reproducible import generator

RULE = (
    "For each subject: the trials with the model's best, median and worst BERTScore (the first trial among ties), and one drawn at random "
    "(seed {seed}). None was chosen by hand. Read the median and the random one first."
)
TILE = 112  # pixels
TILES = 4  # frames side by side
SHOWN = ("bertscore", "rouge_l_f", "identification_2way")


@dataclass(frozen=True)
class Example:
    """A trial of the gallery."""

    rank: str
    subject: str
    trial: int
    action: str
    frames: str
    n_frames: int
    reference: str
    prediction: str
    scores: dict[str, float]
    controls: list[tuple[str, str]]


def examples(scores: pd.DataFrame, labels: pd.DataFrame, frames: Sequence[Path], seed: int) -> list[Example]:
    """Return the best, median, worst and a random trial of each subject, with the frames of its clip.

    Args:
        scores: per-trial scores of one data set, all subjects and conditions.
        labels: `subject, trial, stim_file, action` of the same trials.
        frames: frame arrays of the test shards (docs/data.md).
        seed: of the random trials.

    Raises:
        UserError: a trial without label, or a clip without frames.
    """
    shards = [load_array(path) for path in frames]
    place = {clip: (array, i) for array, header in shards for i, clip in enumerate(header["clips"])}
    found = []
    for subject, of_subject in scores[scores["condition"] == "model"].groupby("subject"):
        for rank, row in _chosen(of_subject, generator(seed, "gallery", str(subject))).items():
            label = labels[(labels["subject"] == subject) & (labels["trial"] == row["trial"])]
            if len(label) != 1:
                raise UserError("labels", f"found {len(label)} rows for sub-{subject}, trial {row['trial']}, expected one")
            clip = label["stim_file"].iloc[0]
            if clip not in place:
                raise UserError(", ".join(map(str, frames)), f"no frames of {clip}; run the frames stage for the test shards again")
            array, i = place[clip]
            others = scores[(scores["subject"] == subject) & (scores["trial"] == row["trial"]) & (scores["condition"] != "model")]
            texts = dict(zip(others["condition"], others["prediction"], strict=True))
            found.append(
                Example(
                    rank=rank,
                    subject=str(subject),
                    trial=int(row["trial"]),
                    action=str(label["action"].iloc[0]),
                    frames=_tiled(array[i]),
                    n_frames=len(array[i]),
                    reference=row["reference"],
                    prediction=row["prediction"],
                    scores={m: row[m] for m in SHOWN if m in row},
                    controls=[(CONDITIONS[c].title, texts[c]) for c in CONDITIONS if c in texts],
                )
            )
    return found


def _chosen(of_subject: pd.DataFrame, rng: np.random.Generator) -> dict[str, pd.Series]:
    """Choose the best, median, worst and a random trial; fewer than four trials fill the ranks in this order."""
    ranked = of_subject.sort_values(["bertscore", "trial"], ascending=[False, True], ignore_index=True)
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": int(ranked["bertscore"].argmin())}
    others = [i for i in range(len(ranked)) if i not in places.values()]
    if others:
        places["random"] = int(rng.choice(others))
    taken: dict[int, str] = {}
    for rank, i in places.items():
        taken.setdefault(i, rank)
    return {rank: ranked.iloc[i] for i, rank in taken.items()}


def _tiled(frames: np.ndarray) -> str:
    """Tile the frames of a clip (T, size, size, 3) in rows of `TILES`, as a WebP data URI."""
    n_columns = min(len(frames), TILES)
    tiled = Image.new("RGB", (TILE * n_columns, TILE * -(-len(frames) // n_columns)))
    for i, frame in enumerate(frames):
        image = Image.fromarray(np.asarray(frame)).resize((TILE, TILE), Image.Resampling.LANCZOS)
        tiled.paste(image, (TILE * (i % n_columns), TILE * (i // n_columns)))
    buffer = BytesIO()
    tiled.save(buffer, format="WebP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
