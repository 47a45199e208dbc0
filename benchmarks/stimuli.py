"""The frames step against a bare loop of decord or PyAV over the same clips: `python -m benchmarks.stimuli --help`.

The clips are rendered and encoded as HAD's are (H.264, 340x256 pixels, 30 frames per second, 2 s), into a folder that can be kept.
The loops do what is needed to get the same pixels: T uniform frames, resized by Pillow, in an array. The step also makes sure that
each clip is whole, takes its digest, and writes array and header. Seconds of a core are those of the process and its workers
together (CPU time), so that others on the machine disturb them little; wall times stand beside.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from boldscribe.config import Config
from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.processes import cores, in_processes
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.scenes import Scene, draw_scenes
from boldscribe.stimuli.clips import broken_clips
from boldscribe.stimuli.frames import uniform_indices
from boldscribe.stimuli.shards import write_frames

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, FPS, SECONDS = 340, 256, 30, 2


def write_scene(path_and_scene: tuple[Path, Scene]) -> None:
    """Render a clip: the middle of a square picture."""
    path, scene = path_and_scene
    top = (WIDTH - HEIGHT) // 2
    write_clip(path, render(scene, size=WIDTH, fps=FPS, seconds=SECONDS)[:, top : top + HEIGHT], FPS)


def make_clips(folder: Path, n: int) -> list[Path]:
    """Clips of different scenes; those that are there are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = draw_scenes(n, np.random.default_rng(0))
    named = {folder / f"{i:04d}.mp4": scene for i, scene in enumerate(scenes)}
    list(in_processes(write_scene, [(p, s) for p, s in named.items() if not p.exists()], cores(), "rendering"))
    return list(named)


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The picture that the step writes."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def bare_decord(clips: list[Path], n_frames: int, size: int | None) -> NDArray[np.uint8]:
    """What anyone would write with decord; without a size, decoding alone."""
    import decord

    out = np.empty((len(clips), n_frames, size or HEIGHT, size or WIDTH, 3), np.uint8)
    for row, clip in zip(out, clips, strict=True):
        video = decord.VideoReader(str(clip), ctx=decord.cpu(0), num_threads=1)
        images = video.get_batch(uniform_indices(len(video), n_frames)).asnumpy()
        row[:] = images if size is None else [resized(image, size) for image in images]
    return out


def bare_pyav(clips: list[Path], n_frames: int, size: int | None) -> NDArray[np.uint8]:
    """What anyone would write with PyAV: decode up to the last frame that is wanted."""
    out = np.empty((len(clips), n_frames, size or HEIGHT, size or WIDTH, 3), np.uint8)
    for row, clip in zip(out, clips, strict=True):
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            wanted = {int(index): t for t, index in enumerate(uniform_indices(stream.frames, n_frames))}
            for i, frame in enumerate(container.decode(stream)):
                if i in wanted:
                    image = frame.to_ndarray(format="rgb24")
                    row[wanted[i]] = image if size is None else resized(image, size)
                if i == max(wanted):
                    break
    return out


def spent(function: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process and its workers, and wall seconds."""
    before, start = os.times(), time.perf_counter()
    function()
    wall, after = time.perf_counter() - start, os.times()
    return sum(after[:4]) - sum(before[:4]), wall


def alternatives(config: Config, clips: list[Path], folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    index = {"subject": "01", "trial": range(len(clips))}
    pd.DataFrame({**index, "role": "train"}).to_parquet(folder / "trials.parquet")
    pd.DataFrame({**index, "stim_file": [clip.name for clip in clips]}).to_parquet(folder / "labels.parquet")
    T, size, names = config.stimuli.n_frames, config.stimuli.size, [clip.name for clip in clips]

    def ours(reader: str, workers: int, cache: ContentCache | None = None) -> Callable[[], object]:
        settings = config.model_copy(update={"stimuli": config.stimuli.model_copy(update={"reader": reader})})
        tables = {"trials": [folder / "trials.parquet"], "labels": [folder / "labels.parquet"]}
        return lambda: write_frames(settings, "had", "train", 0, **tables, output=folder / f"{reader}.npy", workers=workers, cache=cache)

    cache = ContentCache(folder / "cache", "benchmark")
    ours("decord", 1, cache)()
    return {
        "bare decord": lambda: bare_decord(clips, T, size),
        "bare decord, not resized": lambda: bare_decord(clips, T, None),
        "bare PyAV": lambda: bare_pyav(clips, T, size),
        "bare PyAV, not resized": lambda: bare_pyav(clips, T, None),
        "frames, decord, 1 process": ours("decord", 1),
        "frames, decord, 2 processes": ours("decord", 2),
        "frames, PyAV, 1 process": ours("pyav", 1),
        "frames, PyAV, 2 processes": ours("pyav", 2),
        "frames, from the cache": ours("decord", 1, cache),
        "broken_clips, 1 process": lambda: broken_clips(clips[0].parent, names, 1),
        "broken_clips, 2 processes": lambda: broken_clips(clips[0].parent, names, 2),
    }


@click.command()
@click.option("--clips", "n", default=337, show_default=True, help="Clips; 337 is a shard of HAD's 21,600 among 64.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the rendered clips lie, or are put to be kept.")
def main(n: int, repeats: int, folder: Path | None) -> None:
    """Time all in turn, `repeats` times after one that does not count, and print medians and ratios."""
    from benchmarks.measuring import machine  # imports torch, which the workers, who import this program, do without

    with tempfile.TemporaryDirectory() as work:
        clips = make_clips(folder or Path(work) / "clips", n)
        config = Config.load(ROOT / "config.yaml")
        dataset = config.datasets["had"].model_copy(update={"stimuli_dir": str(clips[0].parent)})
        stimuli = config.stimuli.model_copy(update={"shards": 1})
        config = config.model_copy(update={"datasets": {"had": dataset}, "stimuli": stimuli})
        T, size = config.stimuli.n_frames, config.stimuli.size
        named = alternatives(config, clips, Path(work))
        for reader, bare, label in (("decord", bare_decord, "decord"), ("pyav", bare_pyav, "PyAV")):
            named[f"frames, {label}, 1 process"]()
            if not np.array_equal(np.load(Path(work) / f"{reader}.npy"), bare(clips, T, size)):
                raise SystemExit(f"the step and the bare loop over {label} gave different pixels")
        rounds = [{name: spent(function) for name, function in named.items()} for _ in range(repeats + 1)][1:]
    cpu = {name: statistics.median(r[name][0] for r in rounds) for name in named}
    wall = {name: statistics.median(r[name][1] for r in rounds) for name in named}
    kb = statistics.mean(clip.stat().st_size for clip in clips) / 1e3 if folder else None
    print(f"{n} rendered clips ({WIDTH}x{HEIGHT}, H.264, {SECONDS} s, {FPS} fps{f', {kb:.0f} kB on average' if kb else ''}), ", end="")
    print(f"{T} frames each at {size}x{size}; {repeats} repeats in turn; {machine()}\n")
    print("| | frames/s per core | × bare decord | × bare PyAV | × the faster | clips/s, wall |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in named:
        loops = cpu["bare decord"], cpu["bare PyAV"]
        ratios = " | ".join(f"{seconds / cpu[name]:.2f}" for seconds in (*loops, min(loops)))
        print(f"| {name} | {n * T / cpu[name]:.0f} | {ratios} | {n / wall[name]:.1f} |")


if __name__ == "__main__":
    main()
