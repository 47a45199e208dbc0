"""Clips: rendered to the byte, read by either reader, refused when damaged; shards that hold every clip once."""

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from boldscribe.errors import UserError
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.scenes import VOCABULARY, Scene, describe, draw_scenes
from boldscribe.stimuli import frames as frames_module
from boldscribe.stimuli.frames import read_frames, uniform_indices
from boldscribe.stimuli.shards import clips_of_shard, records
from boldscribe.training.connectors import FIELDS, names


def scene(**fields: str) -> Scene:
    values = {field: options[0] for field, options in VOCABULARY.items()} | fields
    return Scene(**values, seed=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, render(scene(), size=64, fps=8, seconds=2), 8)
    return path


def test_scenes_are_balanced_and_every_caption_names_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    scenes = draw_scenes(48, rng)
    for field, values in VOCABULARY.items():
        counts = pd.Series([getattr(s, field) for s in scenes]).value_counts()
        assert set(counts.index) == set(values) and counts.max() - counts.min() <= 1, field
    for s in scenes:
        caption = describe(s, rng)
        assert all(names(caption, s, field) for field in FIELDS), caption


def test_a_caption_with_a_wrong_or_a_second_value_does_not_count() -> None:
    s = scene(actor="man", colour="red")
    assert names("A man in a red shirt is here.", s, "actor")
    assert not names("A woman in a red shirt is here.", s, "actor")
    assert not names("A man in a red shirt and a blue hat.", s, "colour")


def test_what_differs_in_the_scene_differs_in_the_picture() -> None:
    still = render(scene(), size=64, fps=8, seconds=1)
    assert (still[0] != still[3]).any(), "the actor moves"
    for field, values in VOCABULARY.items():
        other = render(scene(**{field: values[1]}), size=64, fps=8, seconds=1)
        assert (other != still).any(), field


def test_the_same_scene_gives_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mp4"
    write_clip(again, render(scene(), size=64, fps=8, seconds=2), 8)
    assert again.read_bytes() == clip.read_bytes()
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_uniform_indices_follow_video_llamas_rule() -> None:
    assert uniform_indices(60, 8).tolist() == [0, 7, 15, 22, 30, 37, 45, 52]
    assert uniform_indices(2, 4).tolist() == [0, 0, 1, 1]


def test_both_readers_see_the_same(clip: Path) -> None:
    by_decord = read_frames(clip, n_frames=4, size=64, reader="decord").images
    by_pyav, index, n, rate = read_frames(clip, n_frames=4, size=64, reader="pyav")
    assert (index, n, rate) == ([0, 4, 8, 12], 16, 8.0)
    assert np.abs(by_decord.astype(int) - by_pyav).max() <= 2
    drawn = render(scene(), size=64, fps=8, seconds=2)[index]
    assert np.abs(by_pyav.astype(int) - drawn).mean() < 8, "compression aside, what was drawn"


def test_pyav_takes_over_where_decord_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "av1.mp4"
    images = render(scene(), size=64, fps=8, seconds=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert frames_module._by_decord(path, 4) is None, "decord reads this AV1 file, so the test shows nothing; choose another"
    got, index, _, _ = read_frames(path, n_frames=4, size=64, reader="decord")
    assert np.abs(got.astype(int) - images[index]).mean() < 12


def test_missing_truncated_and_foreign_files_are_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4: the video is missing"):
        read_frames(tmp_path / "none.mp4", n_frames=4, size=64)
    for content in (clip.read_bytes()[:600], b"", b"not a video"):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.mp4"):
            read_frames(broken, n_frames=4, size=64)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("index_first.mp4", "mpeg4", {"movflags": "faststart"}), ("vp9.webm", "libvpx-vp9", {}), ("ffv1.mkv", "ffv1", {})],
)
def test_half_a_video_is_not_taken_for_a_shorter_one(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = tmp_path / name
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for image in render(scene(), size=64, fps=8, seconds=3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert read_frames(path, n_frames=4, size=64).indices == [0, 6, 12, 18]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(UserError, match=r"(frames: found|cannot be read)"):
        read_frames(path, n_frames=4, size=64)


def test_shards_hold_every_clip_of_their_role_once(tmp_path: Path) -> None:
    trials = pd.DataFrame({"subject": ["01"] * 5, "trial": range(5), "role": ["train"] * 4 + ["adapt"], "instruction": "?"})
    labels = pd.DataFrame({"subject": ["01"] * 5, "trial": range(5), "stim_file": ["b", "a", "c", "a", "z"], "action": "x"})
    trials.to_parquet(tmp_path / "t.parquet")
    labels.to_parquet(tmp_path / "l.parquet")
    table = records([tmp_path / "t.parquet"], [tmp_path / "l.parquet"], "train")
    shards = [clips_of_shard(table, i, 2) for i in range(2)]
    assert sorted(shards[0] + shards[1]) == ["a", "b", "c"], "and none of an adaptation trial"
