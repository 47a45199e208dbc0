"""Frames of videos of every codec and container: those that decoding in sequence gives, whoever reads them; whole or refused.

The reference is FFmpeg's libraries, which decode from the first frame to the last, as its command does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from av.stream import Disposition

from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.clips import broken_clips
from boldscribe.stimuli.containers import read_timeline
from boldscribe.stimuli.frames import check_frames, read_frames, uniform_indices
from tests.coded_videos import decoded, picture, taken, write_coded

READERS = ("pyav", "decord")
X265 = "log-level=none:pools=none:frame-threads=1"
OPEN_GOPS = {"x264-params": "keyint=8:min-keyint=8:bframes=3:open-gop=1:scenecut=0"}


class Coding(NamedTuple):
    """Options of an encoder, by name, and the containers that its videos are put into."""

    codec: str
    containers: str
    options: dict[str, dict[str, str]]
    others: dict[str, Any] = {}


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
    Coding("libx265", "mkv mp4 ts mov", {"open": {"x265-params": f"{X265}:keyint=8:min-keyint=8:open-gop=1"}, "long": {"x265-params": X265}}),
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


def grid() -> list[Any]:
    """Arguments of `write_coded` by file name; the first container and options of a codec, and the odd kinds, are quick."""
    cases = []
    for coding in CODINGS:
        for j, (name, options) in enumerate(coding.options.items()):
            for i, container in enumerate(coding.containers.split()):
                made = {"codec": coding.codec, "codec_options": options, **coding.others}
                slow = [pytest.mark.slow] if i or j else []
                cases.append(pytest.param(f"{coding.codec}, {name}.{container}", made, marks=slow))
    x264 = {"codec": "libx264", "codec_options": OPEN_GOPS}
    for kind, made in KINDS.items():
        for container in ("mp4", "mkv", "mov"):
            cases.append(pytest.param(f"{kind}.{container}", x264 | made, marks=[] if container == "mp4" else [pytest.mark.slow]))
    for name, made in OF_CONTAINERS.items():
        cases.append(pytest.param(name, x264 | made, marks=[] if name.startswith(("early", "held")) else [pytest.mark.slow]))
    for name, made in WEB.items():
        cases.append(pytest.param(name, made, marks=[] if ", longer" in name else [pytest.mark.slow]))
    return cases


@pytest.mark.parametrize(("name", "made"), grid())
def test_frames_are_those_of_decoding_in_sequence(tmp_path: Path, name: str, made: dict[str, Any]) -> None:
    path = write_coded(tmp_path / name, **made)
    if made.get("turned") or made.get("mirrored"):
        there: list[int | None] = list(range(30))  # the reference does not turn pictures
    else:
        there = decoded(path)
        cut = -made.get("first", 0) if path.suffix in (".mp4", ".mov") else 0  # an edit list leaves out what is before 0
        assert there == list(range(max(cut, 0), made.get("n", 30)))
    wanted = [there[i] for i in uniform_indices(len(there), 8)]
    assert {reader: taken(path, 8, reader) for reader in READERS} == dict.fromkeys(READERS, wanted)
    assert broken_clips(tmp_path, [name], 1) == {}
