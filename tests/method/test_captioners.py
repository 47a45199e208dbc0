"""Captioners: other models than Video-LLaMA see the clip, say the same in batches as alone, and are what the configuration says."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig
from transformers.utils import is_torchvision_available

from boldscribe.config import Config
from boldscribe.doctor import examine
from boldscribe.evaluation.notes import references
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, load_array, save_array
from boldscribe.machinery.provenance import asset_lock
from boldscribe.machinery.provenance.environment import packages_of
from boldscribe.machinery.provenance.fingerprint import current_fingerprint
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.reproducible import seed_everything
from boldscribe.models import asset_folders, video_text
from boldscribe.models.asset_folders import provide
from boldscribe.models.video_llama import load_llm, load_projection, load_video_q_former
from boldscribe.models.video_text import FramesAs, Timing, VideoTextModel
from boldscribe.simulation.render import render, write_clip
from boldscribe.simulation.scenes import VOCABULARY, Scene
from boldscribe.stimuli.captioners import timings
from boldscribe.stimuli.captions import COLUMNS, write_captions
from boldscribe.stimuli.shards import write_frames
from tests.as_step import as_step
from tests.video_text_models import FAMILIES, REVISION, write_model

NEEDS_TORCHVISION = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision does not load beside torch's CPU build")
WAYS = ["images", pytest.param("video", marks=NEEDS_TORCHVISION)]
INSTRUCTIONS = ["Describe the video.", "What is the main thing happening in the video?", "What?"]
TIMING = Timing(n_frames=16, fps=8.0, indices=[0, 4, 8, 12])
GREEDY: dict[str, Any] = {"max_new_tokens": 8}


@pytest.fixture(scope="session")
def folders(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("video-text")
    return {family: write_model(family, models_dir / "llm", parent / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 4, 64, 64, 3)).astype(np.uint8)
    return np.stack([noise[0], noise[1] // 3, 255 - noise[2] // 4])


def configured(config: Config, folder: Path, **keys: Any) -> Config:
    """The experiment with another captioner."""
    values = {"kind": "video_text", "model": str(folder), "hub_name": "tests/tiny", "revision": REVISION, "frames_as": "images"}
    return Config.model_validate({**config.model_dump(by_alias=True), "captioner": {**values, "dtype": "float32", "batch_size": 2, **keys}})


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_sees_the_clip_and_says_the_same_in_a_batch_as_alone(
    family: str, way: FramesAs, folders: dict[str, Path], clips: np.ndarray
) -> None:
    model = VideoTextModel.load(folders[family], way, "float32")

    def ask(shown: np.ndarray, instructions: list[str]) -> list[str]:
        return model.answer(shown, [TIMING] * len(shown) if way == "video" else None, instructions, **GREEDY)

    alone = [ask(clips[i : i + 1], [text])[0] for i, text in enumerate(INSTRUCTIONS)]
    assert ask(clips, INSTRUCTIONS) == alone and all(alone)
    of_clips = ask(clips, INSTRUCTIONS[:1] * 3)
    assert len(set(of_clips)) == 3, "one instruction about three clips"
    assert len(set(ask(clips[[0, 0, 0]], INSTRUCTIONS))) == 3, "three instructions about one clip"
    assert ask(clips[:1, ::-1], INSTRUCTIONS[:1]) != of_clips[:1], "played backwards it is another clip"
    assert not any("user" in text.lower() or "<" in text for text in alone), "neither prompt nor special tokens"


def test_sampling_is_repeated_by_the_seed(folders: dict[str, Path], clips: np.ndarray) -> None:
    model = VideoTextModel.load(folders["smolvlm"], "images", "float32")
    drawn = []
    for seed in (1, 1, 2):
        seed_everything(seed, "captions", "test")
        drawn.append(model.answer(clips, None, INSTRUCTIONS, max_new_tokens=8, do_sample=True, temperature=1.0, top_p=0.9))
    assert drawn[0] == drawn[1] != drawn[2]


def test_which_way_frames_go_in_is_said(folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    VideoTextModel.load(folders["qwen3_vl"], "images", "float32")
    assert "as a sequence of images without times" in caplog.text


def test_a_video_without_torchvision_is_refused(folders: dict[str, Path], demo: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_text, "is_torchvision_available", lambda: False)
    monkeypatch.setattr("boldscribe.doctor.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"captioner\.frames_as: found 'video', which needs torchvision.* or set 'images'"):
        VideoTextModel.load(folders["qwen3_vl"], "video", "float32")
    found = {c.name: c.status for c in examine(configured(demo, folders["qwen3_vl"], frames_as="video"))}
    assert found["weights: captioner.model"] == "ok" and found["weights: captioner's video processor"] == "missing"
    assert "weights: captioner's video processor" not in {c.name for c in examine(configured(demo, folders["qwen3_vl"]))}


def test_records_hold_the_version_of_what_processes_videos() -> None:
    assert "torchvision" in current_fingerprint("captions").packages
    assert ("torchvision" in packages_of("captions")) == is_torchvision_available()


def test_a_video_has_the_times_at_which_its_frames_were_taken() -> None:
    metadata = video_text._metadata(TIMING)
    assert metadata.timestamps == [0, 0.5, 1, 1.5]
    assert metadata.sampled_fps == 2 and metadata.duration == 2


@NEEDS_TORCHVISION
@pytest.mark.parametrize(
    ("family", "words"),
    [("qwen3_vl", ["<0.2 seconds>", "<1.2 seconds>"]), ("video_llama_3", ["Time 0.5s:", "Time 1.5s:"]), ("smolvlm", ["0:00:02", "00:01"])],
)
def test_a_model_is_told_the_times(family: str, words: list[str], folders: dict[str, Path], clips: np.ndarray) -> None:
    model = VideoTextModel.load(folders[family], "video", "float32")
    prompt = model.processor.tokenizer.decode(model.prepare(clips[:1], [TIMING], INSTRUCTIONS[:1])["input_ids"][0])
    assert all(word in prompt for word in words), prompt


def test_folders_that_are_not_the_configured_model_are_refused(
    folders: dict[str, Path], demo: Config, models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(UserError, match=words):
            provide(configured(demo, folder), "captioner", tmp_path / "out")

    def copy(name: str, *without: str) -> Path:
        (tmp_path / name).mkdir()
        for file in folders["qwen3_vl"].iterdir():
            if file.name not in without:
                (tmp_path / name / file.name).symlink_to(file)
        return tmp_path / name

    refused(tmp_path / "none", "none: is missing: expected the folder")
    refused(models_dir / "llm", r"llm: found no preprocessor_config\.json or processor_config\.json")
    refused(copy("no_config", "config.json"), r"no_config: found no config\.json")
    pickled = copy("pickled", "model.safetensors")
    (pickled / "pytorch_model.bin").touch()
    refused(pickled, "expected a folder with config.json and .safetensors files")

    whole = copy("whole")
    assert {p.name for p in provide(configured(demo, whole), "captioner", tmp_path / "out")} == {p.name for p in whole.iterdir()}
    assert "does not state the commit" in caplog.text
    notes = whole / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"{REVISION}\nan-etag\n0.0\n")
    caplog.clear()
    provide(configured(demo, whole), "captioner", tmp_path / "out")
    assert caplog.text == ""
    (notes / "tokenizer.json.metadata").write_text(f"{'f' * 40}\nan-etag\n0.0\n")
    refused(whole, f"whole: commit: found {REVISION}, {'f' * 40}, expected captioner.revision, {REVISION}")
    snapshot = tmp_path / "snapshots" / ("e" * 40)
    snapshot.parent.mkdir()
    copy("cached").rename(snapshot)
    refused(snapshot, f"commit: found {'e' * 40}")
    with pytest.raises(UserError, match="found 'captioner', for which no weights are configured"):
        asset_folders.source(demo, "captioner")


def test_models_that_transformers_cannot_run_by_itself_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="model_type: found 'bert', expected a video-text model"):
        VideoTextModel.load(tmp_path / "bert", "images", "float32")
    (tmp_path / "foreign").mkdir()
    code = {"model_type": "foreign", "auto_map": {"AutoConfig": "configuration.Foreign"}}
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(code))
    with pytest.raises(UserError, match="cannot be read as a model's configuration"):
        VideoTextModel.load(tmp_path / "foreign", "images", "float32")
    (tmp_path / "mute").mkdir()
    for file in folders["qwen3_vl"].iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / "mute" / file.name).symlink_to(file)
    with pytest.raises(UserError, match="no chat template"):
        VideoTextModel.load(tmp_path / "mute", "images", "float32")


def test_lock_and_configuration_name_one_revision(
    folders: dict[str, Path], demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folders["smolvlm"] / "config.json"
    row = asset_lock.Asset("tiny/config.json", "f" * 40, name_of(file, ROOT / "results"), "-", 1, "0" * 64, "-", False)
    monkeypatch.setattr(asset_lock, "asset_lock", lambda: {row.path: row})
    with pytest.raises(UserError, match=f"tiny/config.json: version: found {'f' * 40}, expected {REVISION} as configured"):
        provide(configured(demo, folders["smolvlm"]), "captioner", tmp_path / "out")


@pytest.fixture
def shard(demo: Config, tmp_path: Path) -> dict[str, Any]:
    """Tables and frames of three rendered clips; the second is shown twice, under one instruction and under another."""
    stimuli = tmp_path / "raw" / "stimuli"
    stimuli.mkdir(parents=True)
    for i in range(3):
        scene = Scene(**{field: options[i % len(options)] for field, options in VOCABULARY.items()}, seed=i)
        write_clip(stimuli / f"{i}.mp4", render(scene, size=64, fps=8, seconds=2), 8)
    files = ["0.mp4", "1.mp4", "1.mp4", "1.mp4", "2.mp4"]
    index = {"subject": ["01"] * 5, "trial": range(5)}
    trials, labels = tmp_path / "trials.parquet", tmp_path / "labels.parquet"
    pd.DataFrame({**index, "role": "train", "instruction": [INSTRUCTIONS[i] for i in (0, 0, 1, 0, 2)]}).to_parquet(trials)
    pd.DataFrame({**index, "stim_file": files, "action": "x"}).to_parquet(labels)
    dataset = demo.datasets["had"].model_copy(update={"bids_dir": str(tmp_path / "raw")})
    stimuli_settings = demo.stimuli.model_copy(update={"size": 64})
    config = demo.model_copy(update={"datasets": {"had": dataset}, "stimuli": stimuli_settings})
    write_frames(config, "had", "train", 0, trials=[trials], labels=[labels], output=tmp_path / "train-000_frames.npy")
    return {"trials": [trials], "labels": [labels], "frames": tmp_path / "train-000_frames.npy"}


def test_frames_carry_the_times_of_their_clips(shard: dict[str, Any], tmp_path: Path) -> None:
    frames, header = load_array(shard["frames"])
    assert timings(shard["frames"], header)[0] == Timing(n_frames=16, fps=8.0, indices=[0, 4, 8, 12])
    save_array(tmp_path / "x.npy", frames, **{**header, "frames_per_second": [8.0, None, 8.0]})
    with pytest.raises(UserError, match=r"the frame rate, .* of 1\.mp4 is unknown; set captioner\.frames_as: images"):
        timings(tmp_path / "x.npy", load_array(tmp_path / "x.npy")[1])


def test_captions_of_a_shard_by_another_model(shard: dict[str, Any], demo: Config, folders: dict[str, Path], tmp_path: Path) -> None:
    config = configured(demo, folders["qwen2_5_vl"])
    own = as_step(config, "captions", dataset="had", split="test", shard="000")
    tables = {"trials": shard["trials"], "labels": shard["labels"]}
    for name in ("first", "again"):
        write_captions(own, **tables, clips=shard["frames"], models_dir=tmp_path, output=tmp_path / f"{name}.parquet")
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    table = pd.read_parquet(tmp_path / "first.parquet")
    assert list(table) == COLUMNS and len(table) == 5 and (table["text"].str.len() > 0).all()
    assert table["text"][1] == table["text"][3] and table["text"].nunique() == 4, "one answer per clip and instruction"
    origin = table.attrs["captioner"]
    assert origin["author"] == f"tests/tiny (revision {REVISION})" and origin["frames_as"] == "images"
    assert origin["architecture"] == "Qwen2_5_VLForConditionalGeneration" and origin["revision_stated_by_folder"] == []
    provide(as_step(config, "fetch_model", asset="captioner"), "captioner", tmp_path / "out")


@pytest.mark.parametrize("do_sample", [False, True])
def test_video_llamas_captions_are_those_of_its_parts(
    do_sample: bool, shard: dict[str, Any], demo: Config, models_dir: Path, tmp_path: Path
) -> None:
    """The parts put together by hand, in the order in which they draw random numbers."""
    sampling: dict[str, Any] = {"do_sample": do_sample, "temperature": 0.8, "top_p": 0.9, "max_new_tokens": 10, "batch_size": 2}
    config = demo.model_copy(update={"video_llama": demo.video_llama.model_copy(update=sampling)})
    settings = demo.video_llama.q_former
    tokens = np.random.default_rng(3).normal(size=(3, 4 * settings.n_queries, settings.hidden_size)).astype(np.float16)
    features = tmp_path / "train-000_features.npy"
    save_array(features, tokens, clips=["0.mp4", "1.mp4", "2.mp4"])
    output = tmp_path / "captions.parquet"
    write_captions(config, trials=shard["trials"], labels=shard["labels"], clips=features, models_dir=models_dir, output=output)
    seed_everything(config.seed, "captions", features.name)
    llm, q_former, projection = load_llm(config, models_dir), load_video_q_former(config), load_projection(config)
    expected = []
    for rows, instructions in (([0, 1], INSTRUCTIONS[:1] * 2), ([1, 2], INSTRUCTIONS[1:])):
        with torch.inference_mode():
            soft = projection(q_former(torch.from_numpy(tokens[rows]).float()))
        expected += llm.generate(instructions, soft, **sampling)
    table = pd.read_parquet(output)
    assert table["text"].tolist() == [expected[i] for i in (0, 1, 2, 1, 3)]
    assert table.attrs["captioner"]["author"] == "SmolLM2-135M-Instruct with connectors trained on 2,500 rendered clips"


def test_tables_say_who_wrote_the_references(demo: Config, tmp_path: Path) -> None:
    assert references(Config()).startswith("The references are captions by Video-LLaMA (") and "not comparable" not in references(Config())
    other = references(configured(demo, tmp_path))
    assert f"captions by tests/tiny (revision {REVISION}); fMRI is aligned with the video tokens of a miniature video model (" in other
    assert "not comparable" in other
