"""Rendered clips of moving jointed figures, drawn with Pillow and encoded as H.264 with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from boldscribe.machinery.files import atomic
from boldscribe.simulation.actors import Canvas, draw_action
from boldscribe.simulation.backdrops import draw_backdrop
from boldscribe.simulation.scenes import Scene

CYCLES_PER_SECOND = {"slow": 0.75, "fast": 1.75}
SUPERSAMPLING = 2


def render(scene: Scene, *, size: int, fps: int, seconds: float) -> NDArray[np.uint8]:
    """Draw a scene as frames.

    Args:
        size: edge of the square frames (pixels).
        fps: frames per second.
        seconds: length (s).

    Returns:
        uint8 array (frames, size, size, 3), RGB.
    """
    rng = np.random.default_rng(scene.seed)
    edge = size * SUPERSAMPLING
    backdrop = Image.new("RGB", (edge, edge))
    draw_backdrop(ImageDraw.Draw(backdrop), scene.place, edge, rng)
    scale, shift, phase = rng.uniform(0.9, 1.1), rng.uniform(-0.06, 0.06), rng.uniform()
    frames = np.empty((round(fps * seconds), size, size, 3), np.uint8)
    for i in range(len(frames)):
        image = backdrop.copy()
        canvas = Canvas(ImageDraw.Draw(image), edge, scale=scale, shift=shift, mirrored=scene.direction == "left")
        draw_action(canvas, scene, phase + CYCLES_PER_SECOND[scene.speed] * i / fps)
        frames[i] = np.asarray(image.reduce(SUPERSAMPLING))
    return frames


def write_clip(path: str | Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Encode frames (n, height, width, 3) as H.264 in mp4; equal frames give equal bytes.

    To this end, one thread encodes with algorithms that do not depend on the CPU. With x264's fastest ones, 8 % of encodings
    differed from others of the same frames.
    """
    options = {"preset": "veryfast", "crf": "20", "threads": "1", "flags": "+bitexact", "x264-params": "cpu-independent=1"}
    with atomic(path) as part, av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
