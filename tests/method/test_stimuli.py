"""Clips: rendered to the byte, read by either reader, refused when damaged; shards that hold every clip once, made once."""

import logging
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import header_path, load_array, sha256_of
from boldscribe.machinery.processes import in_processes
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.scenes import VOCABULARY, Scene, describe, draw_scenes
from boldscribe.stimuli import frames as frames_module
from boldscribe.stimuli import shards as shards_module
from boldscribe.stimuli.clips import broken_clips, missing_clips
from boldscribe.stimuli.frames import read_frames, uniform_indices
from boldscribe.stimuli.shards import clips_of_shard, records, write_frames
from boldscribe.training.connectors_record import FIELDS, names


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
    assert np.array_equal(by_decord, by_pyav)
    drawn = render(scene(), size=64, fps=8, seconds=2)[index]
    assert np.abs(by_pyav.astype(int) - drawn).mean() < 8, "compression aside, what was drawn"


def test_missing_truncated_and_foreign_files_are_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4: the video is missing"):
        read_frames(tmp_path / "none.mp4", n_frames=4, size=64)
    for content in (clip.read_bytes()[:600], b"", b"not a video"):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.mp4"):
            read_frames(broken, n_frames=4, size=64)


def test_shards_hold_every_clip_of_their_role_once(tmp_path: Path) -> None:
    trials = pd.DataFrame({"subject": ["01"] * 5, "trial": range(5), "role": ["train"] * 4 + ["adapt"], "instruction": "?"})
    labels = pd.DataFrame({"subject": ["01"] * 5, "trial": range(5), "stim_file": ["b", "a", "c", "a", "z"], "action": "x"})
    trials.to_parquet(tmp_path / "t.parquet")
    labels.to_parquet(tmp_path / "l.parquet")
    table = records([tmp_path / "t.parquet"], [tmp_path / "l.parquet"], "train")
    shards = [clips_of_shard(table, i, 2) for i in range(2)]
    assert sorted(shards[0] + shards[1]) == ["a", "b", "c"], "and none of an adaptation trial"


def broken_files(clip: Path) -> dict[str, bytes]:
    """A clip spoilt in ways that downloads and disks spoil files."""
    whole = clip.read_bytes()
    middle, count = len(whole) // 3, whole.index(b"stsz") + 12
    with av.open(str(clip)) as container:
        in_frame = [p.pos for p in container.demux(video=0) if p.size][8] + 12
    return {
        "truncated.mp4": whole[: len(whole) // 2],
        "empty.mp4": b"",
        "text.mp4": b"<html>Not found</html>" * 50,
        "wrong_count.mp4": whole[:count] + (40).to_bytes(4, "big") + whole[count + 4 :],
        "overwritten.mp4": bytes(64) + whole[64:],
        "hole.mp4": whole[:middle] + bytes(400) + whole[middle + 400 :],
        "flipped.mp4": whole[:in_frame] + bytes(b ^ 255 for b in whole[in_frame : in_frame + 8]) + whole[in_frame + 8 :],
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_clips_are_listed_with_a_reason_and_whole_ones_are_not(clip: Path, tmp_path: Path, workers: int) -> None:
    files = {"whole.mp4": clip.read_bytes(), **broken_files(clip), "deep/whole.mp4": clip.read_bytes()}
    (tmp_path / "deep").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = broken_clips(tmp_path, [*files, "none.mp4"], workers)
    assert [*found] == [*broken_files(clip)]
    assert not any(str(tmp_path) in reason for reason in found.values())
    assert found["wrong_count.mp4"].startswith("frames: found none, expected one or more")
    assert found["hole.mp4"].startswith("frame ") and "cannot be decoded" in found["hole.mp4"]
    assert "frames are damaged" in found["flipped.mp4"]
    assert missing_clips(tmp_path, [*files, "none.mp4"]) == ["none.mp4"]


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        list(in_processes(os._exit, [1, 1], 2, "x"))


@pytest.fixture
def shard(demo: Config, tmp_path: Path) -> dict[str, Any]:
    """Five clips, two of them the same, of one size that is not that of the frames; what `write_frames` is called with."""
    names = ["a.mp4", "b.mp4", "c.mp4", "again.mp4", "d.mp4"]
    for i, name in enumerate(names):
        values = {field: options[i % len(options)] for field, options in VOCABULARY.items()}
        write_clip(tmp_path / "clips" / name, render(Scene(**values, seed=i), size=64, fps=8, seconds=1)[:, 8:], 8)
    (tmp_path / "clips" / "again.mp4").write_bytes((tmp_path / "clips" / "b.mp4").read_bytes())
    index = {"subject": ["01"] * 5, "trial": range(5)}
    pd.DataFrame({**index, "role": "train"}).to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({**index, "stim_file": names}).to_parquet(tmp_path / "l.parquet")
    dataset = demo.datasets["had"].model_copy(update={"stimuli_dir": str(tmp_path / "clips")})
    config = demo.model_copy(update={"datasets": {"had": dataset}, "stimuli": demo.stimuli.model_copy(update={"size": 32})})
    return {"config": config, "trials": [tmp_path / "t.parquet"], "labels": [tmp_path / "l.parquet"]}


def write(shard: dict[str, Any], output: Path, **options: Any) -> dict[str, Any]:
    given = {"split": "train", "shard": 0, **shard}
    write_frames(dataset="had", output=output, **{**given, **options})
    return load_array(output)[1]


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_frames_are_those_of_each_clip_whoever_decodes_them(shard: dict[str, Any], tmp_path: Path, reader: str) -> None:
    stimuli = shard["config"].stimuli.model_copy(update={"reader": reader})
    shard["config"] = shard["config"].model_copy(update={"stimuli": stimuli})
    headers = [write(shard, tmp_path / f"{n}.npy", workers=n) for n in (1, 2)]
    clips = headers[0]["clips"]
    alone = [read_frames(tmp_path / "clips" / c, n_frames=4, size=32, reader=stimuli.reader).images for c in clips]
    np.save(tmp_path / "alone.npy", np.stack(alone))
    assert len({(tmp_path / f"{name}.npy").read_bytes() for name in ("1", "2", "alone")}) == 1
    assert headers[0] == headers[1] and clips == ["a.mp4", "again.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert headers[0]["clip_sha256"] == [sha256_of(tmp_path / "clips" / c) for c in clips]
    assert headers[0]["frame_index"] == [[0, 2, 4, 6]] * 5 and headers[0]["clip_frames"] == [8] * 5


def test_frames_of_the_same_content_are_decoded_once(
    shard: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoded: list[str] = []

    def counting(path: Path, **settings: Any) -> frames_module.ClipFrames:
        decoded.append(path.name)
        return read_frames(path, **settings)

    monkeypatch.setattr(shards_module, "read_frames", counting)
    cache, first = ContentCache(tmp_path / "cache", "this code"), tmp_path / "first.npy"

    def decodes(name: str, made_by: str = "this code", **options: Any) -> int:
        decoded.clear()
        header = write(shard, tmp_path / name, cache=ContentCache(tmp_path / "cache", made_by), **options)
        if not options:
            assert (tmp_path / name).read_bytes() == first.read_bytes() and header == load_array(first)[1]
        return len(decoded)

    assert decodes("first.npy") == 4, "of five clips, two of which are the same"
    assert decodes("second.npy") == 0
    entry = next(cache.folder.glob("*.npy"))
    assert entry.samefile(first) and not entry.samefile(tmp_path / "second.npy"), "no room is taken, no time stamp shared"

    caplog.set_level(logging.WARNING)
    for spoilt in (first, entry.with_suffix(".json")):  # the output is changed in place, and the entry with it; the header is
        content = bytearray(spoilt.read_bytes())
        content[-20] ^= 1
        with spoilt.open("r+b") as stream:
            stream.write(content)
        assert write(shard, tmp_path / "other.npy", cache=cache) and len(decoded) == 4, spoilt
        assert "its content differs from what was written" in caplog.text
        assert write(shard, first, cache=cache) and (decodes("third.npy"), caplog.clear()) == (0, None)

    assert decodes("other.npy", made_by="other code") == 4
    stimuli = shard["config"].stimuli
    for change in ({"size": 48}, {"n_frames": 2}, {"reader": "decord"}):
        config = shard["config"].model_copy(update={"stimuli": stimuli.model_copy(update=change)})
        assert decodes("other.npy", config=config) == 4, change
    (tmp_path / "clips" / "c.mp4").write_bytes((tmp_path / "clips" / "d.mp4").read_bytes())
    assert decodes("other.npy", config=shard["config"]) == 3


def test_a_kept_folder_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    cache, made = ContentCache(tmp_path / "cache", "maker"), tmp_path / "made"
    (made / "part").mkdir(parents=True)
    (made / "part" / "weights").write_bytes(b"weights")

    def taken(name: str, content: str = "model", maker: str = "maker") -> bool:
        (tmp_path / name).mkdir()
        return ContentCache(cache.folder, maker).take_folder(content, tmp_path / name)

    assert not taken("early")
    cache.keep_folder("model", made)
    assert taken("again") and (tmp_path / "again" / "part" / "weights").read_bytes() == b"weights"
    assert not taken("of another content", "other") and not taken("by other code", maker="other")
    (cache.entry("model", "") / "part" / "weights").write_bytes(b"w3ights")
    assert not taken("edited") and list((tmp_path / "edited").iterdir()) == []
    header_path(cache.entry("model", "")).write_text("{torn")
    assert not taken("torn") and list((tmp_path / "torn").iterdir()) == []
    cache.keep_folder("model", made)
    assert taken("made anew")
