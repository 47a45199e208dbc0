"""Clips that the embedded connectors do not know: recognised by their look, and told in logs, captions, tables and report."""

import logging
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
import torch
from numpy.typing import NDArray
from PIL import Image

from boldscribe.config import Config
from boldscribe.evaluation.scores import warnings_of
from boldscribe.machinery.files import load_array, save_array
from boldscribe.machinery.reproducible import generator
from boldscribe.simulation.render import render
from boldscribe.simulation.scenes import draw_scenes
from boldscribe.stimuli import captioners
from boldscribe.stimuli.captions import write_captions
from boldscribe.stimuli.familiarity import familiar_clips
from boldscribe.stimuli.features import write_features

PHOTOGRAPHS = {
    "china": Path(sklearn.datasets.__file__).parent / "images" / "china.jpg",
    "flower": Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg",
    "hopper": Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
}
T, SIZE = 2, 224


def photographed(path: Path, zoom: float) -> NDArray[np.uint8]:
    """A clip that pans over a photograph."""
    image = Image.open(path).convert("RGB")
    edge = int(min(image.size) * zoom)
    boxes = [(x, 0, x + edge, edge) for x in (0, min(20, image.size[0] - edge))]
    return np.stack([np.asarray(image.crop(box).resize((SIZE, SIZE))) for box in boxes])


def rendered(seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """A clip of a scene that the connectors were not trained on."""
    (scene,) = draw_scenes(1, generator(seed, "unseen"))
    frames = render(scene, size=size, fps=8, seconds=2.0)[[0, 9]]
    return np.stack([np.asarray(Image.fromarray(frame).resize((SIZE, SIZE))) for frame in frames])


@pytest.fixture(scope="module")
def clips() -> dict[str, NDArray[np.uint8]]:
    """Unlike clips have names with a capital."""
    photographs = {f"{name.capitalize()}-{zoom}.mp4": photographed(path, zoom) for name, path in PHOTOGRAPHS.items() for zoom in (0.5, 1)}
    noise = np.random.default_rng(0).integers(0, 256, (T, SIZE, SIZE, 3), dtype=np.uint8)
    return {**photographs, "Noise.mp4": noise, **{f"rendered-{s}.mp4": rendered(s) for s in range(4)}, "small.mp4": rendered(5, 128)}


@pytest.fixture(scope="module")
def features(clips: dict[str, NDArray[np.uint8]], demo: Config, models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    for name, chosen in (("test-000", list(clips)), ("test-001", [clip for clip in clips if clip.islower()])):
        save_array(folder / f"{name}_frames.npy", np.stack([clips[c] for c in chosen]), clips=chosen)
        write_features(demo, frames=folder / f"{name}_frames.npy", models_dir=models_dir, output=folder / f"{name}_features.npy")
    return folder


def test_photographs_are_told_from_rendered_clips(clips: dict[str, NDArray[np.uint8]], features: Path) -> None:
    _, header = load_array(features / "test-000_features.npy")
    assert header["unlike"] == [clip for clip in clips if not clip.islower()]
    _, header = load_array(features / "test-001_features.npy")
    assert "unlike" not in header, "of clips that are known nothing is said"


def test_the_captioner_says_so_before_it_captions_and_scores_keep_it(
    features: Path, demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Llm(torch.nn.Module):
        def generate(self, instructions: list[str], soft: torch.Tensor, **sampling: Any) -> list[str]:
            assert len(instructions) == len(soft)
            told_by_then.append(len(caplog.records))
            return ["A girl in a yellow shirt is playing the guitar in a desert."] * len(instructions)

    told_by_then: list[int] = []
    monkeypatch.setattr(captioners, "load_llm", lambda *_: Llm())
    written = []
    for shard, n_told in (("test-000", 1), ("test-001", 0)):
        _, header = load_array(features / f"{shard}_features.npy")
        trials = pd.DataFrame({"subject": "05", "trial": range(len(header["clips"])), "role": "test", "instruction": "Describe."})
        trials.to_parquet(tmp_path / "trials.parquet")
        trials[["subject", "trial"]].assign(stim_file=header["clips"]).to_parquet(tmp_path / "labels.parquet")
        written.append(tmp_path / f"{shard}_captions.parquet")
        tables = {"trials": [tmp_path / "trials.parquet"], "labels": [tmp_path / "labels.parquet"]}
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            write_captions(demo, **tables, clips=features / f"{shard}_features.npy", models_dir=tmp_path, output=written[-1])
        assert len(caplog.records) == told_by_then[-1] == n_told
    [warning] = warnings_of(written)
    assert warning.startswith("7 of 12 clips (China-0.5.mp4, China-1.mp4, Flower-0.5.mp4, ...) are unlike the rendered clips")
    assert "captions that the data set gives, or another captioner" in warning and not warnings_of(written[1:])


def test_distance_is_what_lies_outside_the_directions_of_the_training_clips() -> None:
    rng = np.random.default_rng(1)
    directions, _ = np.linalg.qr(rng.normal(size=(300, 128)))
    trained, unseen = (
        torch.from_numpy(rng.normal(size=(n, 128)) @ directions.T * 50 + rng.normal(size=(n, 300)) + 7).float() for n in (800, 50)
    )
    familiar = familiar_clips(trained, unseen)
    distances = familiar.distances(unseen)
    assert 0.9 < distances.median() < 1.3 and familiar.limit == 1.25 * distances.max()
    along, across = torch.from_numpy(directions[:, 0]).float(), torch.linalg.svd(torch.from_numpy(directions)).U[:, -1].float()
    moved = torch.stack([unseen[0], unseen[0] + 200 * along, unseen[0] + 60 * across])
    assert familiar.unlike(["as they are", "far along", "far across"], moved) == ["far across"]
