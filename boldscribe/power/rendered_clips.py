"""Clips that are rendered, encoded and captioned once, for all simulated experiments with the same number of clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.data.presentations import REPEATS
from boldscribe.data.trials import LABEL_TYPES, TRIAL_TYPES, draw_instructions
from boldscribe.machinery.files import atomic
from boldscribe.models.asset_folders import provide
from boldscribe.power.design import DATASET
from boldscribe.simulation.dataset import plan, simulate_stimuli
from boldscribe.simulation.scenes import Scene
from boldscribe.stimuli.captions import write_captions
from boldscribe.stimuli.features import write_features
from boldscribe.stimuli.shards import write_frames

ASSETS = ("llm", "visual_encoder", "connectors", "sentence_encoder", "bertscore_encoder")


@dataclass(frozen=True)
class Clips:
    """Clips with their tokens, and one question with its answer each.

    Attributes:
        scenes: what each clip shows, by name.
        features: frozen video features.
        captions: `stim_file, instruction, text`.
    """

    scenes: dict[str, Scene]
    features: Path
    captions: pd.DataFrame


def provide_models(config: Config, folder: Path) -> None:
    """Provide the models of all stages in `folder`."""
    for asset in ASSETS:
        if not (folder / asset).is_dir():
            provide(config, asset, folder / asset)


def make_clips(config: Config, models: Path, folder: Path) -> Clips:
    """Return the clips of an experiment; make them in `folder` by the pipeline's own steps if they do not exist yet.

    Experiments with other seeds assign the same clips to other subjects and trials. Each clip has one question, whoever sees it, so
    its caption is also written only once.

    Args:
        config: an experiment, with the seed that draws the clips.
        models: folder of the model folders.
        folder: for frames, features and captions.
    """
    scenes, _ = plan(config, DATASET)
    frames, features, captions = (folder / f"train-000_{name}" for name in ("frames.npy", "features.npy", "captions.parquet"))
    if not captions.exists():
        trials, labels = _index(config, list(scenes), folder)
        simulate_stimuli(config, DATASET)
        write_frames(config, DATASET, "train", 0, trials=[trials], labels=[labels], output=frames)
        write_features(config, frames=frames, models_dir=models, output=features)
        write_captions(config, trials=[trials], labels=[labels], clips=features, models_dir=models, output=captions)
        frames.unlink()  # half a gigabyte that is no longer read
    return Clips(scenes, features, pd.read_parquet(captions)[["stim_file", "instruction", "text"]])


def _index(config: Config, names: list[str], folder: Path) -> tuple[Path, Path]:
    """Write one record per clip, as the stimulus steps read them: trials and labels of a subject who sees all clips."""
    n = len(names)
    table = pd.DataFrame({"stim_file": names, "trial": range(n), "instruction": draw_instructions(config, DATASET, "clips", n)})
    table = table.assign(dataset=DATASET, subject="clips", run="01", role="train", action="", source="", n_volumes=config.bold.n_volumes)
    table[REPEATS] = pd.Series([[]] * len(table), dtype=object)
    table = table.assign(onset=0.0, first_volume=0, high_motion=0.0, start=0.0, description="")
    paths = folder / "trials.parquet", folder / "labels.parquet"
    for path, types in zip(paths, (TRIAL_TYPES, LABEL_TYPES), strict=True):
        with atomic(path) as part:
            table[list(types)].astype(types).to_parquet(part, index=False)
    return paths
