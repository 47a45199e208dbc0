"""Q-Former: learned queries that read tokens by cross-attention (paper 3.1), from transformers' BLIP-2 classes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from boldscribe.config.model_settings import QFormerSettings
from boldscribe.models.weight_files import load_weights


class QFormer(nn.Module):
    """L learned query tokens and the transformer through which they read.

    Args:
        config: widths.
        layers: number of layers.
        encoder_width: width of the tokens to read.
        cross_attention_frequency: n, where the queries read in every n-th layer.
    """

    def __init__(self, config: QFormerSettings, *, layers: int, encoder_width: int, cross_attention_frequency: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.randn(1, config.n_queries, config.hidden_size) * 0.02)
        self.bert = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=config.hidden_size,
                num_hidden_layers=layers,
                num_attention_heads=config.n_heads,
                intermediate_size=4 * config.hidden_size,
                encoder_hidden_size=encoder_width,
                cross_attention_frequency=cross_attention_frequency,
            )
        )

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Read tokens (B, N, encoder_width) into (B, L, hidden_size)."""
        queries = self.query_tokens.expand(len(tokens_BND), -1, -1)
        return cast(Tensor, self.bert(query_embeds=queries, encoder_hidden_states=tokens_BND).last_hidden_state)


def image_q_former(config: QFormerSettings, encoder_width: int) -> QFormer:
    """Q-Former that reads the visual encoder's tokens of one frame, in every second layer as in BLIP-2."""
    return QFormer(config, layers=config.image_layers, encoder_width=encoder_width, cross_attention_frequency=2)


def video_q_former(config: QFormerSettings) -> QFormer:
    """Q-Former that reads the tokens of all frames of a clip, or of the fMRI encoder, in every layer as in Video-LLaMA."""
    return QFormer(config, layers=config.video_layers, encoder_width=config.hidden_size, cross_attention_frequency=1)


def bert_state(bert_file: str, layers: int) -> dict[str, Tensor]:
    """Initial weights of a `QFormer` from a BERT encoder's first layers: all but queries and cross-attention."""
    renamed = {}
    for name, tensor in load_weights(bert_file, "run the rule fetch_model again")[0].items():
        if name.startswith("embeddings.LayerNorm."):
            renamed[name.replace("embeddings.LayerNorm.", "bert.layernorm.")] = tensor
        elif name.startswith("encoder.layer.") and int(name.split(".")[2]) < layers:
            name = name.replace("attention.self.", "attention.attention.").replace(".intermediate.", ".intermediate_query.")
            layer, rest = name.split(".", 3)[:3], name.split(".", 3)[3]
            if rest.startswith("output."):
                rest = rest.replace("output.", "output_query.", 1)
            renamed["bert." + ".".join(layer) + "." + rest] = tensor
    return renamed
