"""Shards of clips, and their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, header_path, sha256_of, write_json
from boldscribe.machinery.processes import in_processes
from boldscribe.stimuli.clips import missing_clips
from boldscribe.stimuli.frames import read_frames
from boldscribe.stimuli.video_files import MISSING


def records(trials: Sequence[Path], labels: Sequence[Path], role: str) -> pd.DataFrame:
    """Read the trials of a role (`train`, `test`) with their clips: columns of both tables, ordered by subject and trial."""
    index = pd.concat([pd.read_parquet(p) for p in trials])
    known = pd.concat([pd.read_parquet(p) for p in labels])
    merged = index[index["role"] == role].merge(known, on=["subject", "trial"], validate="one_to_one")
    return merged.sort_values(["subject", "trial"]).reset_index(drop=True)


def clips_of_shard(table: pd.DataFrame, shard: int, n_shards: int) -> list[str]:
    """Clips of one of n shards: every n-th of the sorted distinct clips, so that shards have equal sizes."""
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
    workers: int = 1,
    cache: ContentCache | None = None,
) -> None:
    """Write the frames of a shard's clips: uint8 (clips, T, size, size, 3).

    The header lists `clips`, and for each `clip_sha256`, `frame_index` (of the T sampled frames), `clip_frames` (number of frames) and
    `frames_per_second`.

    Args:
        config: the experiment.
        dataset, split, shard: select the clips.
        trials, labels: of the split's subjects.
        output: the array; its bytes depend neither on `workers` nor on `cache`.
        workers: processes that share the clips.
        cache: frames of the same clips are read from it, or added to it; None for no cache.

    Raises:
        UserError: a clip is missing or cannot be decoded.
    """
    clips = clips_of_shard(records(trials, labels, role=split), shard, config.stimuli.shards)
    folder, settings = config.datasets[dataset].videos, config.stimuli
    if missing := missing_clips(folder, clips):
        raise UserError(str(folder / missing[0]), MISSING)
    digests = [sha256_of(folder / clip) for clip in clips]
    content = {"clips": digests, "n_frames": settings.n_frames, "size": settings.size, "reader": settings.reader}
    with atomic(output) as part:
        header = cache.take(content, part) if cache else None
        if header is None:
            header = _decode([folder / clip for clip in clips], digests, config, workers, part)
            if cache:
                cache.keep(content, part, header)
        write_json(header_path(output), {**header, "clips": clips, "clip_sha256": digests})


@dataclass(frozen=True)
class _Rows:
    """Rows that one clip fills in an array of frames: several, if the clip has several names.

    Attributes:
        clip: the video.
        rows: of the array.
        array: file of the array.
        n_frames, size, reader: see `read_frames`.
    """

    clip: Path
    rows: list[int]
    array: Path
    n_frames: int
    size: int
    reader: Literal["decord", "pyav"]

    def fill(self) -> tuple[list[int], int, float | None]:
        """Write the clip's frames; return their indices in the clip, its number of frames, and its frame rate."""
        found = read_frames(self.clip, n_frames=self.n_frames, size=self.size, reader=self.reader)
        array = np.lib.format.open_memmap(self.array, mode="r+")
        array[self.rows] = found.images
        return found.indices, found.n, found.rate


def _decode(clips: Sequence[Path], digests: Sequence[str], config: Config, workers: int, target: Path) -> dict[str, Any]:
    """Write the frames of clips into an array, decoding each distinct content once; return the array's header."""
    T, size, reader = config.stimuli.n_frames, config.stimuli.size, config.stimuli.reader
    shape = (len(clips), T, size, size, 3)
    np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        rows.setdefault(digest, []).append(row)
    work = [_Rows(clips[same[0]], same, target, T, size, reader) for same in rows.values()]
    found = dict(zip(rows, in_processes(_Rows.fill, work, workers, "frames"), strict=True))
    index, lengths, rates = zip(*(found[digest] for digest in digests), strict=True) if clips else ([], [], [])
    return {
        "shape": list(shape),
        "dtype": "uint8",
        "axes": ["clip", "frame", "y", "x", "RGB"],
        "frame_index": list(index),
        "clip_frames": list(lengths),
        "frames_per_second": list(rates),
    }
