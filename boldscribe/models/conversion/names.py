"""Names of tensors in published checkpoints of Video-LLaMA and its parts, and the use of each.

Based on `video_llama/models/{video_llama,Qformer,eva_vit}.py` of DAMO-NLP-SG/Video-LLaMA. Our names are those of transformers' BLIP-2
classes, prefixed with `visual_encoder.` for the visual encoder, and as in `boldscribe.models.video_llama.Connectors` for the connectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Patterns and replacements, all applied in this order.
RENAMES = (
    (r"^query_tokens$", "frame_tokens.image_q_former.query_tokens"),
    (r"^Qformer\.", "frame_tokens.image_q_former."),
    (r"^video_query_tokens$", "video_q_former.query_tokens"),
    (r"^video_Qformer\.", "video_q_former."),
    (r"^video_frame_position_embedding\.", "frame_tokens.frame_positions."),
    (r"\.bert\.embeddings\.LayerNorm\.", ".bert.layernorm."),
    (r"attention\.self\.", "attention.attention."),
    (r"^visual_encoder\.cls_token$", "visual_encoder.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "visual_encoder.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "visual_encoder.embeddings.patch_embedding."),
    (r"^visual_encoder\.blocks\.", "visual_encoder.encoder.layers."),
    (r"^(visual_encoder\..*)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"^(visual_encoder\..*)\.attn\.proj\.", r"\1.self_attn.projection."),
    (r"^(visual_encoder\..*)\.attn\.qkv\.", r"\1.self_attn.qkv."),
    (r"^(visual_encoder\..*)\.attn\.([qv])_bias$", r"\1.self_attn.qkv.bias[\2]"),
    (r"^ln_vision\.", "visual_encoder.post_layernorm."),
)

NOT_NEEDED = (
    (r"^audio_", "audio branch"),
    (r"Qformer\.bert\.embeddings\.(word|position)_embeddings\.", "text embeddings of a Q-Former, which reads no text here"),
    (r"Qformer\.bert\.embeddings\.position_ids$", "position ids, which are counted and not learned"),
    (r"Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\.", "feed-forward layers for text, which a Q-Former does not read here"),
    (r"Qformer\.cls\.", "language modelling head of a Q-Former"),
    (r"^(t5|opt)_(model|proj)\.", "language model of BLIP-2 and the projection to it"),
    (r"^(vision_proj\.|text_proj\.|itm_head\.|temp$)", "heads of BLIP-2's first stage of training"),
    (r"^llama_model\..*rotary_emb\.inv_freq$", "frequencies of rotary positions, which are computed"),
    (r"^llama_model\.", "language model, frozen in Video-LLaMA: read from its own folder"),
    (r"^visual_encoder\.(fc_)?norm\.", "final norm of EVA-CLIP: BLIP-2 puts ln_vision in its place"),
    (r"^visual_encoder\.head\.", "EVA-CLIP's projection to the space it shares with text"),
)
LAST_BLOCK = "last block of EVA-CLIP, whose output BLIP-2 does not use"

# Kinds of files, identified by a key that they have; the first match wins.
FAMILIES = (
    (r"^decoder_blocks\.|^mask_token$", "an fMRI encoder (SC-MBM); convert it with `boldscribe convert sc-mbm`"),
    (r"^video_Qformer\.bert\.encoder\.", "the vision branch of Video-LLaMA"),
    (r"^audio_", "the audio branch of Video-LLaMA (AL_*.pth), which is not used"),
    (r"^(model\.layers|layers)\.\d+\.", "a language model; give its folder with --llm"),
    (r"^Qformer\.", "BLIP-2's Q-Former; give it with --blip2"),
    (r"^(visual_encoder\.)?blocks\.\d+\.attn\.q_bias$", "EVA-CLIP; give it with --eva"),
    (r"^llama_proj\.", "only a projection, such as MiniGPT-4's"),
)


def target(key: str) -> str:
    """Our name for a published tensor that is used."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def reason_not_needed(key: str, depth: int) -> str | None:
    """Return the reason why a published tensor is not used; None if it is used or unknown.

    Args:
        depth: number of the visual encoder's blocks that are used; a file may have one more.
    """
    if key.startswith(f"visual_encoder.blocks.{depth}."):
        return LAST_BLOCK
    return next((reason for pattern, reason in NOT_NEEDED if re.search(pattern, key)), None)


def family(keys: Iterable[str]) -> str:
    """Describe the kind of file that has these keys."""
    keys = list(keys)
    return next((words for pattern, words in FAMILIES if any(re.search(pattern, key) for key in keys)), "another model's weights")
