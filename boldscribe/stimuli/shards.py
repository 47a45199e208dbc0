"""Which clips belong to a shard, and their frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.files import save_array
from boldscribe.stimuli.frames import check_video, read_frames


def records(trials: Sequence[Path], labels: Sequence[Path], role: str) -> pd.DataFrame:
    """The trials of a role (`train`, `test`) with their clips: columns of both tables, ordered by subject and trial."""
    index = pd.concat([pd.read_parquet(p) for p in trials])
    known = pd.concat([pd.read_parquet(p) for p in labels])
    merged = index[index["role"] == role].merge(known, on=["subject", "trial"], validate="one_to_one")
    return merged.sort_values(["subject", "trial"]).reset_index(drop=True)


def clips_of_shard(table: pd.DataFrame, shard: int, n_shards: int) -> list[str]:
    """Clips of one of n shards: every n-th of the sorted distinct clips, so that shards are of equal size."""
    return sorted(table["stim_file"].unique())[shard::n_shards]


def write_frames(
    config: Config,
    dataset: str,
    split: str,
    shard: int,
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    output: Path,
) -> None:
    """Write the frames of a shard's clips: uint8 (clips, T, size, size, 3).

    The header lists `clips`, and of each `frame_index` (T frames taken), `clip_frames` (frames that it has) and `frames_per_second`.

    Raises:
        UserError: a clip that is missing or cannot be decoded.
    """
    clips = clips_of_shard(records(trials, labels, role=split), shard, config.stimuli.shards)
    folder = config.datasets[dataset].videos
    T, size = config.stimuli.n_frames, config.stimuli.size
    frames, indices, lengths = np.empty((len(clips), T, size, size, 3), np.uint8), [], []
    for i, clip in enumerate(tqdm(clips, "frames", mininterval=5)):
        frames[i], index = read_frames(folder / clip, n_frames=T, size=size, reader=config.stimuli.reader)
        indices.append(index.tolist())
        lengths.append(check_video(folder / clip))
    save_array(
        output,
        frames,
        axes=["clip", "frame", "y", "x", "RGB"],
        clips=clips,
        frame_index=indices,
        clip_frames=[n for n, _ in lengths],
        frames_per_second=[rate for _, rate in lengths],
    )
