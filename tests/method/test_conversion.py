"""Published checkpoints: read exactly, whole or not at all, and without running anything that a pickle asks for."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Blip2VisionConfig, LlamaConfig, LlamaForCausalLM

from boldscribe.cli import main
from boldscribe.config.model_settings import QFormerSettings, ScMbmSettings, VideoLlamaSettings
from boldscribe.machinery.errors import UserError
from boldscribe.models.conversion import llm
from boldscribe.models.conversion.convert_sc_mbm import convert_sc_mbm
from boldscribe.models.conversion.convert_video_llama import assemble, convert_video_llama, expected_shapes, read_part
from boldscribe.models.conversion.llm import check_llm, provide_llm
from boldscribe.models.conversion.shapes import check_shapes
from boldscribe.models.pickled_weights import Checkpoint, TrainingConfig, read_checkpoint
from tests import published_checkpoints as published
from tests.published_checkpoints import Sizes, State

SMALL = Sizes(8, 12, 3, 2, 14, 28, 6, 2, 2, 2, 3, 16)
VISION = Blip2VisionConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
CONFIG = VideoLlamaSettings(q_former=QFormerSettings(n_queries=3, hidden_size=6, image_layers=2, video_layers=2, n_heads=2))
ENCODER = ScMbmSettings(dim=8, depth=2, n_heads=2, decoder_dim=8, decoder_depth=1)


def write_llama(folder: Path, width: int = 16) -> Path:
    """A LLaMA as published: pickled shards with an index, with the frequencies that older transformers saved."""
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    )
    folder.mkdir()
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(folder)
    state = model.state_dict() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    names = sorted(state)
    shards = {f"pytorch_model-0000{i}-of-00002.bin": names[i - 1 :: 2] for i in (1, 2)}
    for file, chosen in shards.items():
        torch.save({name: state[name] for name in chosen}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, chosen in shards.items() for name in chosen}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_llama(tmp_path_factory.mktemp("llama") / "llm")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The separate files, as published."""
    torch.manual_seed(0)
    contents: dict[str, Any] = {
        "checkpoint": {"model": published.trained(SMALL), "optimizer": {"state": {}}, "config": {"run": {"seed": 42}}, "epoch": 2},
        "blip2": {"model": published.blip2(SMALL, text=True)},
        "eva": published.eva(SMALL),
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
    return {name: tmp_path / f"{name}.pth" for name in contents}


def convert(files: dict[str, Path], llama: Path, out: Path) -> dict[str, Any]:
    return convert_video_llama(
        files["checkpoint"], llama, out, blip2=files.get("blip2"), eva=files.get("eva"), config=CONFIG, vision=VISION
    )


def change(file: Path, edit: Callable[[State], object]) -> None:
    """Write a checkpoint again with edited tensors."""
    content = torch.load(file, weights_only=True)
    edit(content["model"])
    torch.save(content, file)


def test_every_tensor_of_the_separate_files_is_accounted_for(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    report = convert(files, llama, tmp_path / "out")
    used = []
    for source, file in zip(report["sources"], files.values(), strict=True):
        keys = [key.removeprefix("visual_encoder.") if file.stem == "eva" else key for key in source["used"]]
        keys += [k.removeprefix("visual_encoder.") if file.stem == "eva" else k for names in source["not_needed"].values() for k in names]
        assert sorted(keys) == sorted(read_checkpoint(file).tensors) and not source["given_up_for_the_equal_tensor_of"]
        used += source["used"].values()
    assert sorted(used) == sorted(expected_shapes(CONFIG, VISION, 16))
    reasons = {reason.split(",")[0] for source in report["sources"] for reason in source["not_needed"]}
    assert {"last block of EVA-CLIP", "position ids", "frequencies of rotary positions", "language modelling head of a Q-Former"} <= reasons
    assert report == json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert report["sources"][0]["beside_the_tensors"] == ["config", "epoch", "optimizer"]
    connectors = load_file(tmp_path / "out" / "connectors.safetensors")
    torch.testing.assert_close(connectors["llama_proj.weight"], read_checkpoint(files["checkpoint"]).tensors["llama_proj.weight"])


def test_one_file_with_everything_gives_the_same(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    convert(files, llama, tmp_path / "parts")
    whole = {f"visual_encoder.{k}": v for k, v in read_checkpoint(files["eva"]).tensors.items() if not k.startswith("head")}
    whole |= {**read_checkpoint(files["blip2"]).tensors, **read_checkpoint(files["checkpoint"]).tensors}
    torch.save({"model": whole | {"audio_query_tokens": torch.ones(1, 8, 6)}}, tmp_path / "whole.pth")
    report = convert({"checkpoint": tmp_path / "whole.pth"}, llama, tmp_path / "one")
    assert report["sources"][0]["not_needed"]["audio branch"] == ["audio_query_tokens"]
    for name in ("connectors.safetensors", "visual_encoder/model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_the_trained_checkpoint_wins_and_the_report_says_so(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    change(files["checkpoint"], lambda tensors: tensors.update({"query_tokens": torch.full((1, 3, 6), 7.0)}))
    report = convert(files, llama, tmp_path / "out")
    assert report["sources"][1]["given_up_for_the_equal_tensor_of"] == {"query_tokens": str(files["checkpoint"])}
    kept = load_file(tmp_path / "out" / "connectors.safetensors")["frame_tokens.image_q_former.query_tokens"]
    assert (kept == 7).all()


def test_the_true_sizes_fit_with_nothing_missing_or_unknown() -> None:
    published_sizes = Sizes()
    states = {
        "--checkpoint": published.trained(published_sizes, published.meta),
        "--blip2": published.blip2(published_sizes, published.meta),
        "--eva": {f"visual_encoder.{k}": v for k, v in published.eva(published_sizes, published.meta).items()},
    }
    assert 1.0e9 < published.n_parameters(states["--eva"]) < 1.05e9, "EVA-CLIP g/14 has 1.01 billion weights"
    expected = expected_shapes(VideoLlamaSettings(), Blip2VisionConfig(), 4096)
    checkpoints = [Checkpoint(Path(name), state) for name, state in states.items()]
    sources, _ = assemble(checkpoints, expected, 39)
    check_shapes(expected, sources)
    assert sources.keys() == expected.keys() and all(source.tensor.is_meta for source in sources.values())
    whole = Checkpoint(Path("whole"), published.whole(published_sizes, published.meta))
    check_shapes(expected, assemble([whole], expected, 39)[0])
    other = Sizes(vision_mlp=6143)
    smaller = Checkpoint(Path("eva"), {f"visual_encoder.{k}": v for k, v in published.eva(other, published.meta).items()})
    with pytest.raises(UserError, match=r"eva, visual_encoder\.blocks\.0\.mlp\.fc1\.weight: found \(6143, 1408\), expected \(6144, 1408\)"):
        check_shapes(expected, assemble([*checkpoints[:2], smaller], expected, 39)[0])


def refused(files: dict[str, Path], llama: Path, out: Path, words: str) -> None:
    with pytest.raises(UserError, match=words):
        convert(files, llama, out)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*")), "nothing is left"


def test_a_renamed_missing_or_misshapen_tensor_is_named(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    original = files["checkpoint"].read_bytes()
    key = "video_Qformer.bert.encoder.layer.1.attention.self.query.weight"
    change(files["checkpoint"], lambda tensors: tensors.update({key.replace("query.w", "queries.w"): tensors.pop(key)}))
    refused(files, llama, tmp_path / "out", r"checkpoint\.pth: found video_Qformer.*queries\.weight, which no known part")
    files["checkpoint"].write_bytes(original)
    change(files["checkpoint"], lambda tensors: tensors.pop(key))
    refused(files, llama, tmp_path / "out", r"weights: 1 tensors \(video_q_former.*query\.weight\), contained in VL_LLaMA.*--checkpoint")
    files["checkpoint"].write_bytes(original)
    change(files["checkpoint"], lambda tensors: tensors.update({key: torch.ones(6, 5)}))
    refused(files, llama, tmp_path / "out", r"checkpoint\.pth, video_Qformer.*query\.weight: found \(6, 5\), expected \(6, 6\)")
    files["checkpoint"].write_bytes(original)
    del files["eva"]
    refused(files, llama, tmp_path / "out", r"missing weights: 30 tensors .* contained in eva_vit_g\.pth; provide it with --eva")


def test_files_of_other_families_and_sizes_are_told_apart(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    wrong: dict[str, tuple[State, str]] = {
        "AL.pth": ({"audio_query_tokens": torch.ones(1, 8, 6), "audio_llama_proj.bias": torch.ones(16)}, "audio branch of Video-LLaMA"),
        "fmri_encoder.pth": (published.sc_mbm(8, 2, 1.0), "an fMRI encoder .*convert sc-mbm"),
        "blip2_alone.pth": (published.blip2(SMALL), "BLIP-2's Q-Former; give it with --blip2"),
        "eva_alone.pth": (published.eva(SMALL), "EVA-CLIP; give it with --eva"),
        "pytorch_model.bin": ({"model.layers.0.mlp.up_proj.weight": torch.ones(2, 2)}, "a language model; give its folder with --llm"),
        "minigpt4.pth": ({"llama_proj.weight": torch.ones(16, 6)}, "only a projection, such as MiniGPT-4's"),
        "resnet.pth": ({"fc.weight": torch.ones(2, 2)}, "another model's weights"),
    }
    for name, (state, words) in wrong.items():
        torch.save({"model": state}, tmp_path / name)
        refused({**files, "checkpoint": tmp_path / name}, llama, tmp_path / "out", f"{name}: --checkpoint: found .*{words}")
    with pytest.raises(UserError, match="--eva: found an fMRI encoder"):
        read_part("--eva", tmp_path / "fmri_encoder.pth")
    wide = {**published.trained(SMALL), "llama_proj.weight": torch.ones(5120, 6), "llama_proj.bias": torch.ones(5120)}
    torch.save({"model": wide}, tmp_path / "13b.pth")
    refused(
        {**files, "checkpoint": tmp_path / "13b.pth"},
        llama,
        tmp_path / "out",
        r"13b\.pth: llama_proj\.weight: found \(5120, 6\), .*made for a 13B",
    )


def test_a_13b_part_with_a_7b_language_model_is_said_in_words(
    files: dict[str, Path], llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boldscribe.models.conversion.convert_video_llama.check_llm", lambda folder: 4096)
    wide = {**published.trained(SMALL), "llama_proj.weight": torch.ones(5120, 6), "llama_proj.bias": torch.ones(5120)}
    torch.save({"model": wide}, files["checkpoint"])
    words = r"expected \(4096, 6\): the file was made for a 13B language model, but .*llm is a 7B language model; use a checkpoint"
    refused(files, llama, tmp_path / "out", words)


def test_missing_truncated_and_other_files_are_refused(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    refused({**files, "eva": tmp_path / "none.pth"}, llama, tmp_path / "out", r"none\.pth: the file is missing")
    torn = tmp_path / "torn.pth"
    torn.write_bytes(files["eva"].read_bytes()[:-300])
    refused({**files, "eva": torn}, llama, tmp_path / "out", r"torn\.pth: found a file that is truncated or not a torch checkpoint")
    legacy = tmp_path / "legacy.pth"
    torch.save(published.eva(SMALL), legacy, _use_new_zipfile_serialization=False)
    assert read_checkpoint(legacy).tensors.keys() == published.eva(SMALL).keys()
    torn.write_bytes(legacy.read_bytes()[:-300])
    refused({**files, "eva": torn}, llama, tmp_path / "out", r"torn\.pth: found a file that is truncated")
    for content, words in ((b"<html>", "another kind of file"), (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer")):
        torn.write_bytes(content)
        refused({**files, "eva": torn}, llama, tmp_path / "out", f"found {words}")
    torch.save({"epoch": 3}, torn)
    refused({**files, "eva": torn}, llama, tmp_path / "out", "found epoch, expected a dict of tensors")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="kept: already exists"):
        convert(files, llama, tmp_path / "kept")


class Payload:
    """A pickle that writes a file when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch {path}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("way", ["zip", "legacy", "plain", "protocol 4"])
def test_a_malicious_pickle_is_refused_and_nothing_is_run(way: str, tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "trap.pth"
    content = {"model": {"a": torch.ones(1)}, "config": Payload(victim)}
    if way in ("zip", "legacy"):
        torch.save(content, file, _use_new_zipfile_serialization=way == "zip")
    else:
        file.write_bytes(pickle.dumps(content["config"], protocol=2 if way == "plain" else 4))
    with pytest.raises(UserError) as caught:
        read_checkpoint(file)
    if way != "protocol 4":  # which torch's restricted unpickler does not even parse
        assert "posix.system" in str(caught.value) and "nothing was executed" in str(caught.value)
    assert not victim.exists()
    if way in ("plain", "protocol 4"):
        pickle.loads(file.read_bytes())
        assert victim.exists(), "the payload works where it is let"


def pickled_config(file: Path, name: str, content: dict[str, Any], **fields: Any) -> None:
    """Save a checkpoint as MinD-Vis does, whose `config` is an object of a class of its module `config`."""
    module = ModuleType("config")
    cls = type(name, (), {"__module__": "config"})
    setattr(module, name, cls)
    instance = cls()
    vars(instance).update(fields)
    sys.modules["config"] = module
    try:
        torch.save({**content, "config": instance}, file)
    finally:
        del sys.modules["config"]


def test_mind_vis_configuration_objects_become_inert(tmp_path: Path) -> None:
    pickled_config(tmp_path / "a.pth", "Config_MBM_fMRI", {"model": published.sc_mbm(8, 2, 1.0)}, num_heads=2, root_path=".")
    config = read_checkpoint(tmp_path / "a.pth").beside["config"]
    assert type(config) is TrainingConfig and vars(config) == {"num_heads": 2, "root_path": "."}
    pickled_config(tmp_path / "b.pth", "Config_Of_Another", {"model": published.sc_mbm(8, 2, 1.0)})
    with pytest.raises(UserError, match=r"config\.Config_Of_Another, which is not on the allow-list"):
        read_checkpoint(tmp_path / "b.pth")
    assert TrainingConfig not in {entry[0] for entry in torch.serialization.get_safe_globals() if isinstance(entry, tuple)}, (
        "the list holds for our reading alone"
    )


def test_sc_mbm_of_mind_vis_is_accounted_for_by_the_command(tmp_path: Path) -> None:
    state = published.sc_mbm(8, 2, 1.0)
    content = {"model": state, "optimizer": {}, "epoch": 499, "scaler": {}}
    pickled_config(tmp_path / "fmri_encoder.pth", "Config_MBM_fMRI", content, num_heads=2)
    (tmp_path / "config.yaml").write_text("sc_mbm: {dim: 8, depth: 2, n_heads: 2, decoder_dim: 8, decoder_depth: 1}\n")
    arguments = ["convert", "sc-mbm", str(tmp_path / "fmri_encoder.pth"), "--config", str(tmp_path / "config.yaml"), "--out"]
    done = CliRunner().invoke(main, [*arguments, str(tmp_path / "out")])
    assert done.exit_code == 0 and "2 attention heads, confirmed by the file's config" in done.output, done.output
    report = json.loads((tmp_path / "out" / "sc_mbm.json").read_text())
    assert sorted([*report["used"], *(k for keys in report["not_used"].values() for k in keys)]) == sorted(state)
    written = load_file(tmp_path / "out" / "sc_mbm.safetensors")
    torch.testing.assert_close(written["sc_mbm.blocks.1.attention.key.bias"], state["blocks.1.attn.qkv.bias"][8:16])


def test_sc_mbm_of_mind_video_loses_its_temporal_attention_with_a_reason(tmp_path: Path) -> None:
    torch.save(published.sc_mbm(8, 2, 1.0, video=True), tmp_path / "diffusion_pytorch_model.bin")
    report = convert_sc_mbm(tmp_path / "diffusion_pytorch_model.bin", ENCODER, tmp_path / "out")
    [temporal] = [keys for reason, keys in report["not_used"].items() if "between volumes" in reason]
    assert len(temporal) == 2 * 6
    assert report["n_heads"]["note"].startswith("not confirmed")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            published.sc_mbm(16, 3, 4.0),
            r"(?s)sc_mbm\.dim: found 16, configured 8.*depth: found 3.*mlp_ratio: found 4.*set sc_mbm\.dim: 16, sc_mbm\.depth: 3",
        ),
        (
            published.sc_mbm(8, 2, 1.0) | {"blocks.0.ls1.gamma": torch.ones(8)},
            r"found blocks\.0\.ls1\.gamma, which .* may change what the blocks compute",
        ),
        (published.eva(SMALL), "expected the fMRI encoder of MinD-Vis or MinD-Video"),
        (
            {k: v for k, v in published.sc_mbm(8, 2, 1.0).items() if "blocks.1.norm2" not in k},
            r"missing blocks\.1\.norm2\.bias, blocks\.1\.norm2\.weight",
        ),
    ],
)
def test_fmri_encoders_of_other_sizes_and_kinds_are_refused(state: State, words: str, tmp_path: Path) -> None:
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=words):
        convert_sc_mbm(tmp_path / "x.pth", ENCODER, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_number_of_heads_is_refused(tmp_path: Path) -> None:
    pickled_config(tmp_path / "x.pth", "Config_MBM_fMRI", {"model": published.sc_mbm(8, 2, 1.0)}, num_heads=4)
    with pytest.raises(UserError, match=r"found 4 in the file's config, configured 2; set sc_mbm\.n_heads: 4"):
        convert_sc_mbm(tmp_path / "x.pth", ENCODER, tmp_path / "out")


def test_a_pickled_language_model_becomes_safetensors_shard_by_shard(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "SHARD", 4000)
    assert check_llm(llama) == 16
    provide_llm(llama, tmp_path / "llm")
    shards = sorted(tmp_path.glob("llm/model-*.safetensors"))
    assert len(shards) > 2 and all(shard.stat().st_size < 6000 for shard in shards)
    assert (tmp_path / "llm" / "tokenizer.json").read_text() == '{"version": "1.0"}'
    ids = torch.tensor([[1, 2, 3]])
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / "llm", use_safetensors=True), AutoModelForCausalLM.from_pretrained(llama)]
    torch.testing.assert_close(*(model.eval()(ids).logits for model in models), rtol=0, atol=0)
    check_llm(tmp_path / "llm")
    assert provide_llm(tmp_path / "llm", tmp_path / "again")[shards[0].name] == "linked"
    assert (tmp_path / "again" / shards[0].name).samefile(shards[0])


def test_language_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llm")
    shard = folder / "pytorch_model-00002-of-00002.bin"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(UserError, match=r"missing pytorch_model-00002-of-00002\.bin, listed in pytorch_model\.bin\.index\.json"):
        check_llm(folder)
    shard.write_bytes(content)
    torch.save(torch.load(shard, weights_only=True) | {"model.norm.weight": torch.ones(3)}, shard)
    with pytest.raises(UserError, match=r"wrong shape model\.norm\.weight: found \(3,\), expected \(16,\)"):
        check_llm(folder)
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(UserError, match=r"tokenizer\.json is missing"):
        check_llm(folder)
    (folder / "config.json").write_text('{"architectures": ["OPTForCausalLM"]}')
    with pytest.raises(UserError, match=r"architectures: found \['OPTForCausalLM'\], expected \['LlamaForCausalLM'\]"):
        check_llm(folder)


def test_the_command_shows_a_mistake_without_a_traceback(files: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(files["checkpoint"]), "--llm", str(llama), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, ["convert", "video-llama", *arguments])
    assert done.exit_code != 0 and "missing weights" in done.output and "Traceback" not in done.output
