"""Tiny video-text models of four families with random weights, in folders laid out as the hub has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SMOL_TOKENS = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>"]
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% else %}<|vision_start|><|{{ c.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOL_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}:{% for c in m.content %}"
    "{% if c.type == 'text' %} {{ c.text }}{% else %}<{{ c.type }}>{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def write_model(family: str, tokenizer: Path, folder: Path) -> Path:
    """A model with random weights drawn wide, so that what it says depends on what it sees.

    Args:
        family: a key of `FAMILIES`.
        tokenizer: folder of a tokenizer, which gets the family's own tokens.
    """
    tokens, template, build, files = FAMILIES[family]
    words = AutoTokenizer.from_pretrained(tokenizer)
    words.add_special_tokens({"additional_special_tokens": tokens})
    words.chat_template = template
    ids = dict(zip(tokens, words.convert_tokens_to_ids(tokens), strict=True))
    torch.manual_seed(0)
    model = build({**TEXT, "vocab_size": len(words)}, ids, words.eos_token_id)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 * 1.5)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def _qwen_2_5(text: dict[str, Any], ids: dict[str, int], end: int) -> Any:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, "fullatt_block_indexes": [1]}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config={**text, "rope_scaling": rope, **_ends(end)}, vision_config=vision, **_places(ids))
    )


def _qwen_3(text: dict[str, Any], ids: dict[str, int], end: int) -> Any:
    rope = {"rope_type": "default", "mrope_section": [3, 3, 2], "mrope_interleaved": True, "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={**text, "head_dim": 16, "rope_scaling": rope, **_ends(end)},
            vision_config=vision | {"deepstack_visual_indexes": [0]},
            **_places(ids),
        )
    )


def _smol(text: dict[str, Any], ids: dict[str, int], end: int) -> Any:
    sizes = {"image_size": 64, "patch_size": 8}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, **sizes}
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            text_config={**text, "model_type": "llama", **_ends(end)}, vision_config=vision, scale_factor=2, image_token_id=ids["<image>"]
        )
    )


def _video_llama_3(text: dict[str, Any], ids: dict[str, int], end: int) -> Any:
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
    return VideoLlama3ForConditionalGeneration(
        VideoLlama3Config(
            text_config={**text, "model_type": "qwen2", **_ends(end)},
            vision_config=vision,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
        )
    )


def _ends(end: int) -> dict[str, int]:
    return {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}


def _places(ids: dict[str, int]) -> dict[str, int]:
    names = ["vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"]
    return dict(zip(names, ids.values(), strict=True))


def _patches(processor: str, image: str, video: str, patch: int, times: int) -> dict[str, Any]:
    sizes = {"patch_size": patch, "temporal_patch_size": times, "merge_size": 2, "size": {"shortest_edge": 3136, "longest_edge": 100352}}
    return {
        "preprocessor_config.json": {"image_processor_type": image, "processor_class": processor, **sizes},
        "video_preprocessor_config.json": {"video_processor_type": video, "processor_class": processor, **sizes},
    }


SMOL_SIZES = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}, "processor_class": "SmolVLMProcessor", **HALF}
Build = Callable[[dict[str, Any], dict[str, int], int], Any]
FAMILIES: dict[str, tuple[list[str], str, Build, dict[str, Any]]] = {
    "qwen2_5_vl": (
        QWEN_TOKENS,
        QWEN_TEMPLATE,
        _qwen_2_5,
        _patches("Qwen2_5_VLProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLVideoProcessor", 14, 2),
    ),
    "qwen3_vl": (
        QWEN_TOKENS,
        QWEN_TEMPLATE,
        _qwen_3,
        _patches("Qwen3VLProcessor", "Qwen2VLImageProcessorFast", "Qwen3VLVideoProcessor", 16, 2),
    ),
    "video_llama_3": (
        QWEN_TOKENS,
        QWEN_TEMPLATE,
        _video_llama_3,
        _patches("VideoLlama3Processor", "VideoLlama3ImageProcessorFast", "VideoLlama3VideoProcessor", 14, 1),
    ),
    "smolvlm": (
        SMOL_TOKENS,
        SMOL_TEMPLATE,
        _smol,
        {
            "preprocessor_config.json": {"image_processor_type": "SmolVLMImageProcessor", **SMOL_SIZES},
            "video_preprocessor_config.json": {"video_processor_type": "SmolVLMVideoProcessor", **SMOL_SIZES},
            "processor_config.json": {"image_seq_len": 16, "processor_class": "SmolVLMProcessor"},
        },
    ),
}
