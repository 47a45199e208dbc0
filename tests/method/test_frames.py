"""Frames of videos of every codec and container: those that decoding in sequence gives, whoever reads them; whole or refused.

The reference is FFmpeg's libraries, which decode from the first frame to the last, as its command does.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from boldscribe.machinery.errors import UserError
from boldscribe.stimuli import frames as frames_module
from boldscribe.stimuli.clips import broken_clips
from boldscribe.stimuli.frames import _by_decord, check_frames, read_frames, uniform_indices
from boldscribe.stimuli.video_files import read_timeline
from tests.coded_videos import CODINGS, KINDS, OF_CONTAINERS, OPEN_GOPS, WEB, decoded, number_in, picture, taken, write_coded

READERS = ("pyav", "decord")


def by_both(path: Path, n_frames: int) -> list[list[int | None] | str]:
    return [taken(path, n_frames, "pyav"), taken(path, n_frames, "decord")]


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
    assert by_both(path, 8) == [wanted] * 2
    assert broken_clips(tmp_path, [name], 1) == {}


@pytest.mark.parametrize(
    ("name", "made", "by_decord"),
    [
        ("long.mp4", {"codec": "libx264"}, True),
        ("open.mkv", {"codec": "libx264", "codec_options": OPEN_GOPS}, True),
        ("b.mp4", {"codec": "mpeg4", "codec_options": {"bf": "2"}}, True),
        ("no times.avi", {"codec": "mpeg4", "codec_options": {"bf": "2"}}, False),
        ("stream.ts", {"codec": "mpeg2video"}, False),
        ("long.ts", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none:pools=none"}}, False),
        ("cut.mp4", {"codec": "libx264", "first": -5}, False),
        ("turned.mp4", {"codec": "libx264", "turned": 180}, False),
        ("new.mp4", {"codec": "libsvtav1", "codec_options": {"svtav1-params": "lp=1"}}, False),
    ],
)
def test_decord_is_used_where_its_answer_is_verified(tmp_path: Path, name: str, made: dict[str, Any], by_decord: bool) -> None:
    path = write_coded(tmp_path / name, **made)
    assert (_by_decord(path, 8, read_timeline(path)) is not None) == by_decord
    either = [read_frames(path, n_frames=8, size=48, reader=reader) for reader in READERS]
    assert np.abs(either[0].images.astype(int) - either[1].images).mean() < 2 and either[0][1:] == either[1][1:]


@pytest.mark.parametrize("change", [[0, 1, 2, 2, *range(3, 30)], range(1, 30), range(0, 30, 2), []])
def test_a_frame_of_another_time_than_stated_makes_the_video_be_decoded_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Sequence[int]
) -> None:
    path = write_coded(tmp_path / "clip.mp4", "libx264")
    stated = read_timeline(path)
    assert stated.counted and stated.n == len(stated.times) == 30
    wrong = stated._replace(n=len(change) or 3, times=[stated.times[i] for i in change])
    monkeypatch.setattr(frames_module, "read_timeline", lambda _: wrong)
    assert by_both(path, 8) == [[0, 3, 7, 11, 15, 18, 22, 26]] * 2


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
def test_a_clip_cut_without_encoding_is_read_from_its_first_whole_frame(tmp_path: Path, container: str) -> None:
    """Open groups of pictures: the first frames of a cut refer to ones before it, and nobody can decode them."""
    whole, cut = write_coded(tmp_path / f"whole.{container}", "libx264", codec_options=OPEN_GOPS), tmp_path / f"cut.{container}"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream, keys = target.add_stream_from_template(source.streams.video[0]), 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if keys >= 2 and packet.size:
                packet.stream = stream
                target.mux(packet)
    assert decoded(cut) == list(range(8, 30)), "the cut is one that the test is about"
    assert by_both(cut, 4) == [[8, 13, 19, 24]] * 2
    assert broken_clips(tmp_path, [cut.name], 1) == {}


@pytest.mark.parametrize(("first", "length"), [(0, 1000), (8, 800), (0, 400)])
def test_an_edit_list_is_followed(tmp_path: Path, first: int, length: int) -> None:
    """Phones trim a video by stating what is to be shown; all frames stay in the file."""
    path = write_coded(tmp_path / "trimmed.mp4", "libx264", codec_options={"bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    content[at : at + 8] = length.to_bytes(4, "big") + (first * 1024).to_bytes(4, "big")  # ms; ticks, 1,024 each frame
    path.write_bytes(content)
    shown = list(range(first, first + length * 15 // 1000))
    assert decoded(path) == shown
    wanted = [shown[i] for i in uniform_indices(len(shown), 4)]
    assert by_both(path, 4) == [wanted] * 2
    assert broken_clips(tmp_path, [path.name], 1) == {}


def test_pictures_that_change_their_size_are_read(tmp_path: Path) -> None:
    parts = [write_coded(tmp_path / f"{turned}.h264", "libx264", n=10, turned=turned) for turned in (0, 90)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = read_frames(path, n_frames=4, size=48)
    assert found.n == 20 and [number_in(image) for image in found.images[:2]] == [0, 5]


def test_a_title_in_any_encoding_and_a_cover_picture_do_no_harm(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "title.avi", "mpeg4")
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"L\xe9vf"))
    assert taken(path, 2, "pyav") == [0, 15]
    with av.open(str(tmp_path / "covered.mp4"), "w") as container:
        cover, stream = container.add_stream("mjpeg", rate=1), container.add_stream("libx264", rate=15)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 640, 480, "yuvj420p", Disposition.attached_pic
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(cover.encode(av.VideoFrame(640, 480, "yuvj420p")))
        for number in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    assert by_both(tmp_path / "covered.mp4", 4) == [[0, 3, 6, 9]] * 2


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_refused(tmp_path: Path, cover: bool) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        if cover:
            picture_stream = container.add_stream("mjpeg", rate=1)
            picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuvj420p"
            picture_stream.disposition = Disposition.attached_pic
            container.mux(picture_stream.encode(av.VideoFrame(64, 48, "yuvj420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with pytest.raises(UserError, match=r"sound\.mp4: contains no video stream"):
        read_frames(path, n_frames=4, size=48)
    assert [*broken_clips(tmp_path, [path.name], 1)] == [path.name]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2 + 7]


def nearly_all(content: bytes) -> bytes:
    return content[:-50]


@pytest.mark.parametrize("damage", [half, nearly_all])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("index_first.mp4", "libx264", {"movflags": "faststart"}),
        ("index_last.mov", "libx264", {}),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("x.mkv", "mpeg4", {}),
        ("x.webm", "libvpx-vp9", {}),
        ("x.avi", "mpeg4", {}),
        ("x.wmv", "wmv2", {}),
        ("x.ts", "mpeg2video", {}),
    ],
)
def test_a_truncated_video_is_not_taken_for_a_shorter_one(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], damage: Callable[[bytes], bytes]
) -> None:
    whole = write_coded(tmp_path / name, codec, container_options=options, audio="aac" if name == "x.mkv" else None, audio_seconds=3)
    content = whole.read_bytes()
    whole.write_bytes(damage(content))
    found = broken_clips(tmp_path, [name], 1)
    assert [*found] == [name]
    stated = f"bytes: found {len(damage(content)):,}, expected [0-9,]+ or more|cannot be read as video"
    assert re.match(stated, found[name]), found
    with pytest.raises(UserError, match=name):
        read_frames(whole, n_frames=4, size=48)


@pytest.mark.parametrize(("name", "codec"), [("x.mkv", "ffv1"), ("x.webm", "libvpx"), ("x.avi", "mjpeg"), ("x.flv", "flv")])
def test_a_video_that_ends_early_in_a_file_of_full_length_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    """As downloads leave it that set the length of a file first."""
    path = write_coded(tmp_path / name, codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(len(content) - middle))
    with pytest.raises(UserError, match=r"(duration: found [01]\.\d\d s, expected 2\.\d\d s as the header states|can(not)? be decoded)"):
        check_frames(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_within_a_group_is_read_from_its_first_key_frame(tmp_path: Path, codec: str) -> None:
    path = write_coded(tmp_path / "x.ts", codec, codec_options={"g": "6"})
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 188 // 9 * 188 :])
    assert decoded(path) == list(range(6, 30)) and by_both(path, 4) == [[6, 12, 18, 24]] * 2
    assert broken_clips(tmp_path, ["x.ts"], 1) == {}


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_transport_stream_that_lost_packets_is_refused(tmp_path: Path, codec: str) -> None:
    path = write_coded(tmp_path / "x.ts", codec)
    content = path.read_bytes()
    middle = len(content) // 376 * 188
    path.write_bytes(content[:middle] + content[middle + 5 * 188 :])
    assert broken_clips(tmp_path, ["x.ts"], 1)["x.ts"].endswith("packets are damaged; fetch the file again")


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libvpx", "mjpeg"])
def test_whatever_is_damaged_is_told_in_words(tmp_path: Path, codec: str) -> None:
    content = write_coded(tmp_path / "x.mkv", codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for i in range(40):
        spoilt = bytearray(content)
        for _ in range(8):
            spoilt[rng.integers(len(content) if i % 2 else 600)] = rng.integers(256)
        path = tmp_path / f"{i}.mkv"
        path.write_bytes(spoilt)
        for check in (check_frames, lambda path: read_frames(path, n_frames=4, size=48)):
            try:
                check(path)
            except UserError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > 5, "some of it is damage"
