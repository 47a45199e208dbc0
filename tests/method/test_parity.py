"""Converted weights compute what the published models compute, checked against implementations that are not ours."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import layer_norm
from transformers import Blip2Config, Blip2Model, Blip2VisionConfig, LlamaConfig, LlamaForCausalLM, OPTConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from boldscribe.config import Config
from boldscribe.config.model_settings import QFormerSettings, ScMbmSettings, VideoLlamaSettings
from boldscribe.machinery.errors import UserError
from boldscribe.models.conversion.convert_sc_mbm import convert_sc_mbm
from boldscribe.models.conversion.convert_video_llama import convert_video_llama
from boldscribe.models.q_former import QFormer
from boldscribe.models.sc_mbm import ScMbm
from boldscribe.models.video_llama import encode_frames, load_encoder, load_frame_tokens, load_projection, load_video_q_former
from boldscribe.models.visual_encoder import EvaClip, load_visual_encoder
from tests import published_checkpoints as published
from tests.timm_block import Block

SIZES = published.Sizes(32, 48, 3, 4, 14, 42, 24, 4, 2, 3, 5, 16)
VISION = Blip2VisionConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=42, patch_size=14, initializer_range=0.1
)
Q_FORMER = QFormerSettings(n_queries=5, hidden_size=24, image_layers=4, video_layers=2, n_heads=3)


def images(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, height, width, 3) as Video-LLaMA's processor hands them to the encoder."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (frames.permute(0, 3, 1, 2) / 255.0 - mean) / std


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LLaMA of the size of SIZES."""
    folder = tmp_path_factory.mktemp("llm")
    config = LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    eva = {name: tensor.half() for name, tensor in published.eva(SIZES).items()}
    return {"eva": eva, "blip2": published.blip2(SIZES), "trained": published.trained(SIZES)}


@pytest.fixture(scope="module")
def converted(demo: Config, parts: dict[str, dict[str, torch.Tensor]], llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration that reads converted weights."""
    folder = tmp_path_factory.mktemp("converted")
    torch.save(parts["eva"], folder / "eva_vit_g.pth")
    torch.save({"model": parts["blip2"]}, folder / "blip2.pth")
    torch.save({"model": parts["trained"], "optimizer": {"state": {}}, "epoch": 2}, folder / "trained.pth")
    convert_video_llama(
        folder / "trained.pth",
        llama,
        folder / "out",
        blip2=folder / "blip2.pth",
        eva=folder / "eva_vit_g.pth",
        config=VideoLlamaSettings(q_former=Q_FORMER),
        vision=VISION,
    )
    paths = {"visual_encoder": str(folder / "out/visual_encoder"), "connectors": str(folder / "out/connectors.safetensors")}
    return demo.model_copy(update={"video_llama": demo.video_llama.model_copy(update={**paths, "q_former": Q_FORMER})})


def test_from_frames_to_soft_tokens_all_is_as_in_video_llama(converted: Config, parts: dict[str, dict[str, torch.Tensor]]) -> None:
    frames = torch.randint(256, (2, 3, 42, 42, 3), dtype=torch.uint8)
    encoder = load_encoder(converted, Path("none"))
    assert isinstance(encoder, EvaClip) and encoder.width == 32
    visual = encode_frames(encoder, frames)
    reference = published.eva_tokens(parts["eva"], images(frames.flatten(0, 1)), SIZES, norm=parts["blip2"])
    torch.testing.assert_close(visual.flatten(0, 1), reference, rtol=0, atol=1e-6)
    another_eps = published.eva_tokens(parts["eva"], images(frames.flatten(0, 1)), SIZES, norm=parts["blip2"], eps=1e-6)
    assert (visual.flatten(0, 1) - another_eps).abs().max() > 1e-5, "the comparison sees a wrong eps"
    with torch.inference_mode():
        soft = load_projection(converted)(load_video_q_former(converted)(load_frame_tokens(converted, encoder.width)(visual)))
    expected = published.soft_tokens(parts["blip2"] | parts["trained"], reference.unflatten(0, (2, 3)), SIZES)
    torch.testing.assert_close(soft, expected)


def test_encoder_and_q_formers_equal_transformers_blip_2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config=VISION.to_dict(),
        qformer_config={
            "hidden_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "intermediate_size": 96,
            "encoder_hidden_size": 32,
        },
        text_config=OPTConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, ffn_dim=8, num_attention_heads=1, word_embed_proj_dim=8
        ).to_dict(),
        num_query_tokens=5,
    )
    model = Blip2Model(config).eval()
    nn.init.normal_(model.query_tokens)
    nn.init.normal_(model.vision_model.embeddings.position_embedding)
    model.vision_model.post_layernorm.eps = 1e-5
    model.vision_model.save_pretrained(tmp_path)
    frames = torch.randint(256, (3, 42, 42, 3), dtype=torch.uint8)
    with torch.inference_mode():
        visual = model.vision_model(images(frames)).last_hidden_state
        queries = model.qformer(query_embeds=model.query_tokens.expand(3, -1, -1), encoder_hidden_states=visual).last_hidden_state
        ours = QFormer(Q_FORMER, layers=4, encoder_width=32, cross_attention_frequency=2).eval()
        state = {"query_tokens": model.query_tokens, **{f"bert.{k}": v for k, v in model.qformer.state_dict().items()}}
        assert not any(ours.load_state_dict(state))
        tokens = load_visual_encoder(tmp_path)(frames)
        torch.testing.assert_close(tokens, visual)
        torch.testing.assert_close(ours(tokens), queries)


def test_frames_of_another_size_are_refused_in_words(converted: Config) -> None:
    with pytest.raises(UserError, match=r"stimuli\.size: found frames of 28 × 42 pixels, expected 42"):
        load_encoder(converted, Path("none"))(torch.zeros(1, 28, 42, 3, dtype=torch.uint8))


def test_a_visual_encoder_of_another_shape_is_refused(converted: Config, tmp_path: Path) -> None:
    source = Path(converted.video_llama.visual_encoder)
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(UserError, match=r"weights do not fit Blip2VisionModel: .*mlp\.fc1\.weight"):
        load_visual_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match="model_type: found 'clip', expected 'efficientnet-lite0' or 'blip_2_vision_model'"):
        load_visual_encoder(tmp_path)


def test_post_layernorm_keeps_its_precision(converted: Config, parts: dict[str, dict[str, torch.Tensor]]) -> None:
    stored = load_file(Path(converted.video_llama.visual_encoder) / "model.safetensors")
    torch.testing.assert_close(stored["post_layernorm.weight"], parts["blip2"]["ln_vision.weight"], rtol=0, atol=0)
    assert {t.dtype for name, t in stored.items() if not name.startswith("post_layernorm")} == {torch.float16}


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_sc_mbm_blocks_equal_timms(ratio: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ScMbmSettings(dim=16, depth=3, n_heads=4, mlp_ratio=ratio, decoder_dim=8, decoder_depth=1)
    state = published.sc_mbm(16, 3, ratio)
    torch.save({"model": state, "epoch": 3}, tmp_path / "fmri_encoder.pth")
    convert_sc_mbm(tmp_path / "fmri_encoder.pth", config, tmp_path / "out")
    ours = ScMbm(config)
    ours.load_state_dict({k.removeprefix("sc_mbm."): v for k, v in load_file(tmp_path / "out" / "sc_mbm.safetensors").items()})
    blocks = nn.Sequential(*(Block(16, 4, mlp_ratio=ratio, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(3)))
    blocks.load_state_dict({k.removeprefix("blocks."): v for k, v in state.items() if k.startswith("blocks.")})
    x = torch.randn(2, 7, 16) * 0.05  # so small that the eps of the norms counts
    expected = layer_norm(blocks.eval()(x), (16,), state["norm.weight"], state["norm.bias"])
    torch.testing.assert_close(ours(x), expected)
