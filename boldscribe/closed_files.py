"""Files that would tell a decoder what was shown: labels, captions and clips (docs/leakage.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.registry import ClosedFiles, Places


def raw_data(config: Config, listed: Collection[str]) -> Places:
    """Return where the raw data of an experiment are, except those of data sets whose files are listed as inputs."""
    foreign = [d for name, d in config.datasets.items() if config.whole(name) not in listed]
    return Places(
        [_real(d.bids_dir) for d in foreign if d.bids_dir],
        {_real(d.videos): "clips" for d in foreign if d.bids_dir or d.stimuli_dir},
        {_real(d.stimulus_manifest): "labels" for d in foreign if d.stimulus_manifest},
    )


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


CLOSED = ClosedFiles(
    in_results={
        "labels": re.compile(r"trials/.*_(labels|excluded)\.parquet|raw/.*_events\.tsv"),
        "captions": re.compile(r"stimuli/.*_captions(_again)?\.parquet|(scores|decoded)/.*"),
        "clips": re.compile(r"(raw/[^/]+/)?stimuli/.*"),
    },
    result_folders=("trials", "stimuli", "scores", "decoded", "raw"),
    # all others there (images, sidecars) do not reveal what was shown
    in_data={"labels": re.compile(r"(.*/)?[^/]*_events\.tsv"), "clips": re.compile(r"(.*/)?stimuli/.*")},
    places=raw_data,
    cached="clips",
    openers={
        "labels": "the steps that write trials, frames and captions, leakage, tables and report may open them; Stages I and II may open "
        "those of source subjects",
        "captions": "scores, leakage and the ceilings may open those of test clips; Stage II and controls may open those of source clips",
        "clips": "frames, video_features, captions and report may open them; Stage I may open the features of source clips",
    },
    lister="fetch_dataset",
)
