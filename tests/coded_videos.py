"""Videos whose every frame states its own number in blocks of black and white, which no lossy codec blurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.frames import read_frames

WIDTH, HEIGHT, BLOCK = 64, 48, 16
BITS = 10  # 4 x 3 blocks: one white, one black, and ten of the number


X265 = "log-level=none:pools=none:frame-threads=1"
OPEN_GOPS = {"x264-params": "keyint=8:min-keyint=8:bframes=3:open-gop=1:scenecut=0"}


class Coding(NamedTuple):
    """Options of an encoder, by name, and the containers that its videos are put into."""

    codec: str
    containers: str
    options: dict[str, dict[str, str]]
    others: Mapping[str, Any] = MappingProxyType({})


CODINGS = [
    Coding(
        "libx264",
        "mp4 mkv mov avi ts flv",
        {
            "open": OPEN_GOPS,
            "long": {"x264-params": "keyint=250:bframes=2"},
            "intra": {"g": "1"},
            "live": {"preset": "ultrafast", "tune": "zerolatency"},
        },
    ),
    Coding(
        "libx265", "mkv mp4 ts mov", {"open": {"x265-params": f"{X265}:keyint=8:min-keyint=8:open-gop=1"}, "long": {"x265-params": X265}}
    ),
    Coding("mpeg4", "avi mp4 mkv mov", {"b": {"bf": "2"}, "short": {"bf": "2", "g": "5"}, "p": {"bf": "0", "g": "5"}}),
    Coding("mpeg2video", "ts mpg mkv avi mp4", {"b": {"bf": "2"}, "short": {"bf": "2", "g": "5"}}),
    Coding("mpeg1video", "mpg", {"p": {}}, {"rate": 25}),
    Coding("libvpx", "webm mkv avi", {"plain": {}, "hidden": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "10"}}),
    Coding("libvpx-vp9", "webm mkv mp4", {"plain": {}, "short": {"g": "10"}}),
    Coding("libsvtav1", "mp4 webm mkv", {"plain": {"preset": "12", "svtav1-params": "lp=1"}}),
    Coding("mjpeg", "avi mov mkv", {"plain": {}}, {"pix_fmt": "yuvj420p"}),
    Coding("ffv1", "mkv avi", {"plain": {}}),
    Coding("gif", "gif", {"plain": {}}, {"pix_fmt": "rgb8"}),
    Coding("flv", "flv", {"plain": {}}),
    Coding("wmv2", "wmv asf avi", {"plain": {}}),
    Coding("msmpeg4", "avi", {"plain": {}}),
    Coding("prores_ks", "mov", {"plain": {}}, {"pix_fmt": "yuv422p10le"}),
]
HELD = [*range(0, 20, 2), *range(20, 80, 3)]  # times of 30 frames: each is shown for 2 or 3 ticks
KINDS = {
    "held": {"times": HELD},
    "late": {"first": 15},
    "one": {"n": 1},
    "three": {"n": 3},
    "turned 90": {"turned": 90},
    "turned 180": {"turned": 180},
    "turned 270": {"turned": 270},
    "mirrored": {"mirrored": True},
    "turned and mirrored": {"turned": 90, "mirrored": True},
    "longer sound": {"audio": "aac", "audio_seconds": 3},
}
OF_CONTAINERS = {
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "index first.mp4": {"container_options": {"movflags": "faststart"}},
    "no edit list.mp4": {"container_options": {"use_editlist": "0"}},
    "early.mp4": {"first": -5},
    "early.mov": {"first": -5},
    "early.mkv": {"first": -5},
    "held.avi": {"times": HELD},
    "live.mkv": {"container_options": {"live": "1"}},
    "no duration.flv": {"container_options": {"flvflags": "no_duration_filesize"}},
    "late.flv": {"first": 15},
}
WEB = {
    f"{codec}, {name}.webm": {"codec": codec, "audio": "libopus", **more}
    for codec in ("libvpx", "libvpx-vp9")
    for name, more in {
        "longer sound": {"n": 60, "rate": 30, "audio_seconds": 2.2},
        "much longer sound": {"audio_seconds": 4},
        "live": {"audio_seconds": 2.2, "container_options": {"live": "1"}},
    }.items()
}


def picture(number: int) -> NDArray[np.uint8]:
    """A frame that states its number: RGB (48, 64, 3); the first block is white and the last black, so that it has one way up."""
    blocks = np.array([1, *(number >> bit & 1 for bit in range(BITS)), 0], np.uint8).reshape(3, 4) * 255
    return np.repeat(np.kron(blocks, np.ones((BLOCK, BLOCK), np.uint8))[..., None], 3, axis=2)


def number_in(image: NDArray[np.uint8]) -> int | None:
    """The number that a picture of any size states; None if it states none, such as one that is turned or blended."""
    height, width = image.shape[:2]
    rows, columns = ((np.arange(n) * 2 + 1) * edge // (2 * n) for n, edge in ((3, height), (4, width)))
    blocks = image.mean(axis=2)[np.ix_(rows, columns)].ravel()
    if blocks[0] < 160 or blocks[-1] > 96 or ((blocks > 96) & (blocks < 160)).any():
        return None
    return sum(int(block > 128) << bit for bit, block in enumerate(blocks[1:-1]))


def write_coded(
    path: Path,
    codec: str,
    *,
    n: int = 30,
    rate: int = 15,
    first: int = 0,
    times: Sequence[int] | None = None,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    audio: str | None = None,
    audio_seconds: float = 0,
    pix_fmt: str = "yuv420p",
    turned: int = 0,
    mirrored: bool = False,
) -> Path:
    """Encode a video of numbered frames.

    Args:
        path: its suffix decides the container.
        codec: FFmpeg's encoder.
        n, rate: number of frames, and frames per second.
        first: time of the first frame, in frames.
        times: time of each frame, in frames (variable rate).
        codec_options, container_options: FFmpeg's options.
        audio, audio_seconds: encoder and length of a silent sound track, if any.
        pix_fmt: pixel format that the codec takes.
        turned: the pictures are stored lying: they are to be turned by so many degrees, counter-clockwise, when they are shown.
        mirrored: then they are to be mirrored, left to right.
    """
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1", **(codec_options or {})})
        stream.height, stream.width = (HEIGHT, WIDTH) if turned % 180 == 0 else (WIDTH, HEIGHT)
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, Fraction(1, rate)
        if turned or mirrored:
            stream.set_display_rotation(turned, hflip=mirrored)
        sound = container.add_stream(audio, rate=48000) if audio else None
        for number, time in enumerate(times if times is not None else range(first, first + n)):
            seen = picture(number)[:, ::-1] if mirrored else picture(number)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(seen, -turned // 90)), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for start in range(0, int(audio_seconds * 48000), 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), format="fltp", layout="stereo")
                silence.pts, silence.sample_rate, silence.time_base = start, 48000, Fraction(1, 48000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


def decoded(path: Path) -> list[int | None]:
    """The numbers of all frames, decoded in sequence from the first to the last by FFmpeg's libraries: the reference."""
    with av.open(str(path)) as container:
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(container.streams.best("video"))]


def taken(path: Path, n_frames: int, reader: Literal["decord", "pyav"]) -> list[int | None] | str:
    """The numbers of the frames that a reader takes, or why it refuses."""
    try:
        images = read_frames(path, n_frames=n_frames, size=96, reader=reader).images
    except UserError as error:
        return "; ".join(error.problems)
    return [number_in(image) for image in images]
