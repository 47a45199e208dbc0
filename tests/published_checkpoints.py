"""Checkpoints in the published formats, with the published names, of any size; and what their authors' models compute from them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import conv2d, embedding, gelu, layer_norm, linear, softmax

Make = Callable[..., Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Sizes of Video-LLaMA's parts; the default is what was published with a 7B language model."""

    vision: int = 1408
    vision_mlp: int = 6144
    blocks: int = 40
    vision_heads: int = 16
    patch: int = 14
    image: int = 224
    width: int = 768
    layers: int = 12
    video_layers: int = 2
    heads: int = 12
    queries: int = 32
    llm: int = 4096


def random(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.1


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _linear(name: str, n_in: int, n_out: int, make: Make) -> State:
    return {f"{name}.weight": make(n_out, n_in), f"{name}.bias": make(n_out)}


def _norm(name: str, width: int, make: Make) -> State:
    return {f"{name}.weight": make(width), f"{name}.bias": make(width)}


def eva(sizes: Sizes, make: Make = random) -> State:
    """eva_vit_g.pth: all 40 blocks, norm and head."""
    d = sizes.vision
    state = {
        "cls_token": make(1, 1, d),
        "pos_embed": make(1, (sizes.image // sizes.patch) ** 2 + 1, d),
        "patch_embed.proj.weight": make(d, 3, sizes.patch, sizes.patch),
        "patch_embed.proj.bias": make(d),
    }
    for n in range(sizes.blocks):
        block = f"blocks.{n}"
        state |= _norm(f"{block}.norm1", d, make) | _norm(f"{block}.norm2", d, make)
        state |= {f"{block}.attn.q_bias": make(d), f"{block}.attn.v_bias": make(d), f"{block}.attn.qkv.weight": make(3 * d, d)}
        state |= _linear(f"{block}.attn.proj", d, d, make)
        state |= _linear(f"{block}.mlp.fc1", d, sizes.vision_mlp, make) | _linear(f"{block}.mlp.fc2", sizes.vision_mlp, d, make)
    return state | _norm("norm", d, make) | _linear("head", d, 1024, make)


def _q_former(prefix: str, width: int, layers: int, encoder: int, every: int, make: Make, *, text: bool) -> State:
    state = {f"{prefix}.bert.embeddings.position_ids": make(1, 512)} | _norm(f"{prefix}.bert.embeddings.LayerNorm", width, make)
    for n in range(layers):
        layer = f"{prefix}.bert.encoder.layer.{n}"
        for part, n_in in (("attention", width), *((("crossattention", encoder),) if n % every == 0 else ())):
            state |= _linear(f"{layer}.{part}.self.query", width, width, make)
            state |= _linear(f"{layer}.{part}.self.key", n_in, width, make) | _linear(f"{layer}.{part}.self.value", n_in, width, make)
            state |= _linear(f"{layer}.{part}.output.dense", width, width, make) | _norm(f"{layer}.{part}.output.LayerNorm", width, make)
        for suffix in ("_query", "") if text else ("_query",):
            state |= _linear(f"{layer}.intermediate{suffix}.dense", width, 4 * width, make)
            state |= _linear(f"{layer}.output{suffix}.dense", 4 * width, width, make)
            state |= _norm(f"{layer}.output{suffix}.LayerNorm", width, make)
    return state


def blip2(sizes: Sizes, make: Make = random, *, text: bool = False) -> State:
    """The `model` of blip2_pretrained_flant5xxl.pth; with `text`, also what the file of the first stage of training has."""
    state = {"query_tokens": make(1, sizes.queries, sizes.width)} | _norm("ln_vision", sizes.vision, make)
    state |= _q_former("Qformer", sizes.width, sizes.layers, sizes.vision, 2, make, text=text) | _linear("t5_proj", sizes.width, 64, make)
    if text:
        state |= {"Qformer.bert.embeddings.word_embeddings.weight": make(100, sizes.width), "temp": make()}
        state |= _linear("Qformer.cls.predictions.decoder", sizes.width, 100, make) | _linear("itm_head", sizes.width, 2, make)
    return state


def trained(sizes: Sizes, make: Make = random) -> State:
    """The `model` of finetune-vicuna7b-v2.pth or VL_LLaMA_2_7B_Finetuned.pth: what was trained, and buffers, which are always saved."""
    state = {"video_query_tokens": make(1, sizes.queries, sizes.width), "video_frame_position_embedding.weight": make(32, sizes.width)}
    state |= {"llama_model.model.layers.0.self_attn.rotary_emb.inv_freq": make(64), "Qformer.bert.embeddings.position_ids": make(1, 512)}
    state |= _q_former("video_Qformer", sizes.width, sizes.video_layers, sizes.width, 1, make, text=False)
    return state | _linear("llama_proj", sizes.width, sizes.llm, make)


def whole(sizes: Sizes, make: Make = random) -> State:
    """A checkpoint with every part, of which the visual encoder has the blocks that are used, and with the audio branch."""
    used = {
        f"visual_encoder.{k}": v for k, v in eva(sizes, make).items() if not k.startswith((f"blocks.{sizes.blocks - 1}.", "norm", "head"))
    }
    other = {"audio_query_tokens": make(1, 8, sizes.width), "llama_model.lm_head.weight": make(10, sizes.llm)}
    return blip2(sizes, make) | trained(sizes, make) | used | other


def sc_mbm(dim: int, depth: int, ratio: float, make: Make = random, *, video: bool = False) -> State:
    """The `model` of MinD-Vis' fmri_encoder.pth; or, as `video`, of MinD-Video's fMRIEncoder with temporal attention."""
    state = {"cls_token": make(1, 1, dim), "pos_embed": make(1, 5, dim), "mask_token": make(1, 1, 8)}
    state |= {"patch_embed.proj.weight": make(dim, 1, 16), "patch_embed.proj.bias": make(dim)}
    for n in range(depth):
        block = f"blocks.{n}"
        for attention in ("attn", "attn_temp") if video else ("attn",):
            state |= _linear(f"{block}.{attention}.qkv", dim, 3 * dim, make) | _linear(f"{block}.{attention}.proj", dim, dim, make)
        for norm in ("norm1", "norm2", "norm_temp") if video else ("norm1", "norm2"):
            state |= _norm(f"{block}.{norm}", dim, make)
        state |= _linear(f"{block}.mlp.fc1", dim, int(dim * ratio), make) | _linear(f"{block}.mlp.fc2", int(dim * ratio), dim, make)
    state |= _norm("norm", dim, make)
    if video:
        return state | {"proj_head.projection.weight": make(8, dim), "proj_head.channel_mapper.weight": make(4, 8), "logit_scale": make()}
    state |= {"decoder_pos_embed": make(1, 5, 8)} | _linear("decoder_embed", dim, 8, make) | _linear("decoder_pred", 8, 16, make)
    return state | _norm("decoder_norm", 8, make) | _linear("decoder_blocks.0.attn.qkv", 8, 24, make)


def eva_tokens(state: State, images: Tensor, sizes: Sizes, *, norm: State, eps: float = 1e-5) -> Tensor:
    """EVA-CLIP as Video-LLaMA runs it (eva_vit.py): all blocks but the last, then `ln_vision`, from the published tensors."""
    state = {k: v.float() for k, v in state.items()}
    x = conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=sizes.patch).flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + state["pos_embed"]
    for n in range(sizes.blocks - 1):
        part = {k.removeprefix(f"blocks.{n}."): v for k, v in state.items() if k.startswith(f"blocks.{n}.")}
        h = layer_norm(x, x.shape[-1:], part["norm1.weight"], part["norm1.bias"], 1e-6)
        bias = torch.cat([part["attn.q_bias"], torch.zeros_like(part["attn.v_bias"]), part["attn.v_bias"]])
        q, k, v = linear(h, part["attn.qkv.weight"], bias).unflatten(2, (3, sizes.vision_heads, -1)).permute(2, 0, 3, 1, 4)
        h = (softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(h, part["attn.proj.weight"], part["attn.proj.bias"])
        h = layer_norm(x, x.shape[-1:], part["norm2.weight"], part["norm2.bias"], 1e-6)
        h = gelu(linear(h, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
        x = x + linear(h, part["mlp.fc2.weight"], part["mlp.fc2.bias"])
    return layer_norm(x, x.shape[-1:], norm["ln_vision.weight"], norm["ln_vision.bias"], eps)


def q_former_tokens(state: State, prefix: str, queries: Tensor, tokens: Tensor, heads: int) -> Tensor:
    """A Q-Former as in Qformer.py, a BERT whose queries read by cross-attention where a layer has it, from the published tensors."""
    state = {k.removeprefix(f"{prefix}.bert."): v for k, v in state.items() if k.startswith(f"{prefix}.bert.")}

    def dense(name: str, x: Tensor) -> Tensor:
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], state[f"{name}.LayerNorm.weight"], state[f"{name}.LayerNorm.bias"], 1e-12)

    def attention(name: str, x: Tensor, read: Tensor) -> Tensor:
        q, k, v = (
            dense(f"{name}.self.{part}", y).unflatten(2, (heads, -1)).transpose(1, 2)
            for part, y in (("query", x), ("key", read), ("value", read))
        )
        context = (softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1) @ v).transpose(1, 2).flatten(2)
        return norm(f"{name}.output", x + dense(f"{name}.output.dense", context))

    x = norm("embeddings", queries.expand(len(tokens), -1, -1))
    for n in range(1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.layer."))):
        layer = f"encoder.layer.{n}"
        x = attention(f"{layer}.attention", x, x)
        if f"{layer}.crossattention.self.query.weight" in state:
            x = attention(f"{layer}.crossattention", x, tokens)
        x = norm(f"{layer}.output_query", x + dense(f"{layer}.output_query.dense", gelu(dense(f"{layer}.intermediate_query.dense", x))))
    return x


def soft_tokens(parts: State, visual_BTND: Tensor, sizes: Sizes) -> Tensor:
    """Video-LLaMA's path from tokens of the visual encoder to the language model (video_llama.py), from the published tensors."""
    B, T = visual_BTND.shape[:2]
    frames = q_former_tokens(parts, "Qformer", parts["query_tokens"], visual_BTND.flatten(0, 1), sizes.heads).unflatten(0, (B, T))
    frames = frames + embedding(torch.arange(T), parts["video_frame_position_embedding.weight"])[None, :, None]
    video = q_former_tokens(parts, "video_Qformer", parts["video_query_tokens"], frames.flatten(1, 2), sizes.heads)
    return linear(video, parts["llama_proj.weight"], parts["llama_proj.bias"])


def n_parameters(state: State) -> int:
    return sum(prod(v.shape) for v in state.values())
