"""Distances of clips from those that the embedded connectors know: `python -m benchmarks.unlike_clips RESULTS --write docs/captioners.md`.

Rendered clips unseen in training, frames of a finished demo, pans over photographs that packages carry, noise, frames of one colour.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import matplotlib
import numpy as np
import sklearn.datasets
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.demo import put
from boldscribe.config import Config
from boldscribe.machinery.files import ROOT, load_array
from boldscribe.machinery.reproducible import generator
from boldscribe.models.embedded_models import unpack
from boldscribe.models.video_llama import encode_frames, load_encoder
from boldscribe.models.visual_encoder import VisualEncoder
from boldscribe.simulation.scenes import draw_scenes
from boldscribe.stimuli.familiarity import load_familiar_clips, mean_tokens
from boldscribe.training.connectors import visual_tokens

PHOTOGRAPHS = [Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")]
PHOTOGRAPHS.append(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
ZOOMS, STARTS = (0.3, 0.5, 0.8, 1.0), (0.0, 0.5)
SIZE = 224


def pan(path: Path, zoom: float, start: float, n_frames: int) -> NDArray[np.uint8]:
    """Move a square window to the right over a photograph, (T, size, size, 3)."""
    image = Image.open(path).convert("RGB")
    edge = int(min(image.size) * zoom)
    left = np.linspace(start, min(1.0, start + 0.2), n_frames) * (image.size[0] - edge)
    boxes = [(int(x), 0, int(x) + edge, edge) for x in left]
    return np.stack([np.asarray(image.crop(box).resize((SIZE, SIZE))) for box in boxes])


def means(encoder: VisualEncoder, clips: Sequence[NDArray[np.uint8]], title: str) -> torch.Tensor:
    """Return the clips' mean visual tokens, (B, D)."""
    with torch.inference_mode():
        encoded = (encode_frames(encoder, torch.from_numpy(np.array(clip))[None]) for clip in tqdm(clips, title))
        return torch.cat([mean_tokens(tokens) for tokens in encoded])


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", type=click.Path(exists=True, path_type=Path), help="Page to put the table in; it is printed otherwise.")
def main(results: Path, write: Path | None) -> None:
    """Measure the distances; RESULTS is the results tree of a finished demo."""
    config = Config.load(ROOT / "config.yaml", ROOT / "profiles" / "demo" / "experiment.yaml")
    familiar = load_familiar_clips(config.video_llama.connectors)
    assert familiar is not None
    n_frames, rng = config.stimuli.n_frames, np.random.default_rng(config.seed)
    with tempfile.TemporaryDirectory() as folder:
        unpack("visual_encoder", Path(folder) / "visual_encoder")
        encoder = load_encoder(config, Path(folder))
        scenes = draw_scenes(config.connectors.n_test_clips, generator(config.seed, "connectors", "test"))
        unseen = mean_tokens(torch.from_numpy(visual_tokens(config, Path(folder), scenes).astype(np.float32)))
    demo = [clip for path in sorted(results.glob("stimuli/*/*_frames.npy")) for clip in load_array(path)[0]]
    pans = [pan(path, zoom, start, n_frames) for path in PHOTOGRAPHS for zoom in ZOOMS for start in STARTS]
    noise = [rng.integers(0, 256, (n_frames, SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3)]
    plain = [np.full((n_frames, SIZE, SIZE, 3), grey, np.uint8) for grey in (0, 128, 255)]
    kinds = {
        "rendered, unseen in training (calibration)": unseen,
        "the demo's, encoded as H.264": means(encoder, demo, "the demo's clips"),
        f"pans over photographs that packages carry ({', '.join(f'`{path.name}`' for path in PHOTOGRAPHS)})": means(encoder, pans, "pans"),
        "noise": means(encoder, noise, "noise"),
        "frames of one colour": means(encoder, plain, "colours"),
    }
    lines = ["| clips | n | smallest | median | largest | unlike |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for kind, found in kinds.items():
        away = familiar.distances(found)
        unlike = int((away > familiar.limit).sum())
        lines.append(f"| {kind} | {len(away)} | {away.min():.2f} | {away.median():.2f} | {away.max():.2f} | {unlike} |")
    lines += ["", f"The limit is {familiar.limit:.2f}."]
    if write:
        put(write, {"unlike clips": lines})
    else:
        click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
