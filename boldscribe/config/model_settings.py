"""Sections of the configuration: the models, and the training of those that come before Stage I."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from boldscribe.machinery.section import Section, key

PLACEHOLDER, QUESTION = "<ImageHere>", "{instruction}"  # of the prompt template


class QFormerSettings(Section):
    """Sizes of the image and the video Q-Former."""

    n_queries: int = key(32, "learned query tokens, L", "paper 3.1", ge=1)
    hidden_size: int = key(768, "width of the tokens, d", "Video-LLaMA", ge=1)
    image_layers: int = key(12, "layers of the image Q-Former", "Video-LLaMA", ge=1)
    video_layers: int = key(2, "layers of the video Q-Former", "Video-LLaMA", ge=1)
    n_heads: int = key(12, "attention heads", "Video-LLaMA", ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> QFormerSettings:
        if self.hidden_size % self.n_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by n_heads {self.n_heads}")
        return self


class VideoLlamaSettings(Section):
    """The frozen video-language model, which captions the clips and whose LLM decodes fMRI."""

    llm: str = key(
        "models/video-llama-2-7b/llm",
        "folder of the language model (safetensors); 'embedded' is SmolLM2-135M-Instruct",
        "paper 3.1: LLaMA; Video-LLaMA",
    )
    visual_encoder: str = key(
        "models/video-llama-2-7b/visual_encoder",
        "folder of the visual encoder; 'embedded' is EfficientNet-Lite0",
        "Video-LLaMA",
    )
    q_former: QFormerSettings = Field(default_factory=QFormerSettings)
    connectors: str = key("models/video-llama-2-7b/connectors.safetensors", "file of the trained Q-Formers and projection", "Video-LLaMA")
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "precision of the LLM", "Video-LLaMA")
    prompt: str = key(
        "[INST] <<SYS>>\nYou are able to understand the visual content that the user provides. Follow the instructions carefully and "
        "explain your answers in detail.\n<</SYS>>\n\n<Video><ImageHere></Video> {instruction} [/INST]",
        "prompt template, in which the L tokens replace <ImageHere>; see docs/weights.md for Vicuna's",
        "Video-LLaMA: without its sentence on the times of the frames, which fMRI has not",
    )
    instructions: list[str] = key(
        [
            "What is the main thing happening in the video?",
            "Describe the video.",
            "What do you notice in the video?",
            "What is going on in this video?",
            "Give a description of the video.",
        ],
        "instructions, of which each fMRI record is assigned one at random",
        "paper 3.2 and 4.2; practice",
        min_length=1,
    )
    stop: list[list[int]] = key(
        [],
        "token id sequences that end an answer, besides the tokenizer's end token; for Vicuna: [[835], [2277, 29937]]",
        "Video-LLaMA",
    )
    do_sample: bool = key(True, "sample the pseudo-captions", "Video-LLaMA")
    temperature: float = key(1.0, "sampling temperature of the pseudo-captions", "Video-LLaMA", gt=0)
    top_p: float = key(0.9, "nucleus (cumulative probability) for sampling the pseudo-captions", "Video-LLaMA", gt=0, le=1)
    max_new_tokens: int = key(300, "maximum length of a pseudo-caption (tokens)", "Video-LLaMA", ge=1)
    batch_size: int = key(128, "clips per batch", "ours: 7B and its cache take 40 GB", ge=1)

    @model_validator(mode="after")
    def _check_prompt(self) -> VideoLlamaSettings:
        if self.prompt.count(PLACEHOLDER) != 1 or QUESTION not in self.prompt:
            raise ValueError(f"prompt: expected one {PLACEHOLDER} and {QUESTION}, found {self.prompt!r}")
        return self


class CaptionerSettings(Section):
    """Source of the captions for Stage II, which are also the references for scoring (docs/captioners.md)."""

    kind: Literal["video_llama", "video_text", "given"] = key(
        "video_llama",
        "Video-LLaMA as configured in video_llama, another video-text model from transformers, or no model: the descriptions that the data "
        "set gives",
        "paper 3.2",
    )
    alignment_target: Literal["video_llama"] = key(
        "video_llama",
        "model whose video tokens x are the target of Stage I and whose LLM decodes: always Video-LLaMA, since other models have no L x d "
        "tokens of a Q-Former; with another captioner, Stage II trains the bridge so that this LLM produces its captions",
        "paper 3.2; Video-LLaMA",
    )
    model: str | None = key(None, "video_text: folder of the model, with the hub's files (safetensors, tokenizer, processor)", "ours")
    hub_name: str | None = key(None, "video_text: name of the model on the hub, OWNER/NAME", "ours")
    revision: str | None = key(None, "video_text: commit of hub_name, 40 hexadecimal digits", "ours", pattern="^[0-9a-f]{40}$")
    frames_as: Literal["video", "images"] = key(
        "video",
        "video_text: pass the frames as a video with timestamps, which needs torchvision, or as a sequence of images without timestamps",
        "ours",
    )
    dtype: Literal["float32", "bfloat16"] = key(
        "bfloat16", "video_text: precision of the model; for Video-LLaMA see video_llama.dtype", "ours"
    )
    batch_size: int = key(8, "video_text: clips per batch; for Video-LLaMA see video_llama.batch_size", "ours", ge=1)

    @model_validator(mode="after")
    def _check_origin(self) -> CaptionerSettings:
        absent = [name for name in ("model", "hub_name", "revision") if not getattr(self, name)]
        if self.kind == "video_text" and absent:
            raise ValueError(f"kind video_text needs {', '.join(absent)}: which model it is, and from which commit, must be said")
        return self

    @property
    def author(self) -> str:
        """Name of the model that writes the captions, with its revision; or that there is none."""
        return {
            "video_llama": "Video-LLaMA",
            "video_text": f"{self.hub_name} (revision {self.revision})",
            "given": "the data set itself (given descriptions, no captioner)",
        }[self.kind]


class ConnectorsSettings(Section):
    """Training of the miniature Video-LLaMA's connectors on rendered clips that no data set uses."""

    n_clips: int = key(2500, "rendered training clips", "ours", ge=2)
    n_test_clips: int = key(240, "rendered clips, unseen in training, for evaluating the captions", "ours", ge=1)
    alignment_epochs: int = key(14, "epochs of contrastive video-text alignment, without the LLM", "ours: after BLIP-2's first stage", ge=1)
    caption_epochs: int = key(2, "epochs of captioning through the frozen LLM", "ours: after BLIP-2's second stage", ge=1)
    batch_size: int = key(32, "clips per batch of alignment", "ours", ge=2)
    caption_batch_size: int = key(8, "clips per batch of captioning", "ours", ge=1)
    learning_rate: float = key(
        3e-4, "learning rate of AdamW; in captioning, ten times this for the projection, a third for the aligned Q-Formers", "ours"
    )


class TokenizerSettings(Section):
    """3-D CNN that turns T volumes into super-voxel tokens."""

    grid: tuple[int, int, int] = key((96, 112, 96), "grid to which template-space BOLD is cropped or padded (voxels)", "practice")
    channels: list[int] = key([64, 128, 256, 512], "channels of the stride-2 stages", "practice", min_length=1)
    token_maps: Literal["shared", "local"] = key(
        "shared",
        "map from the last stage to tokens: one for the whole brain, or a separate one per super-voxel, needed if trials are few",
        "practice; ours",
    )

    @model_validator(mode="after")
    def _check_grid(self) -> TokenizerSettings:
        stride = 2 ** len(self.channels)
        if any(n % stride for n in self.grid):
            raise ValueError(
                f"grid {self.grid} is not divisible by {stride}, the stride of {len(self.channels)} stages; change grid or channels"
            )
        return self


class ScMbmSettings(Section):
    """Sparse-coded masked brain modelling: the fMRI encoder and its pretraining."""

    checkpoint: str | None = key(
        None, "converted weights (docs/weights.md) that initialise the blocks; null for random weights", "paper 3.1: pretrained on HCP"
    )
    dim: int = key(1024, "width of the encoder's tokens", "SC-MBM", ge=1)
    depth: int = key(24, "blocks of the encoder", "SC-MBM", ge=1)
    n_heads: int = key(16, "attention heads of encoder and decoder", "SC-MBM", ge=1)
    mlp_ratio: float = key(1.0, "ratio of MLP width to dim", "SC-MBM", gt=0)
    decoder_dim: int = key(512, "width of the pretraining decoder", "SC-MBM", ge=1)
    decoder_depth: int = key(8, "blocks of the pretraining decoder", "SC-MBM", ge=1)
    mask_ratio: float = key(0.75, "share of masked tokens", "SC-MBM", gt=0, lt=1)
    epochs: int = key(500, "epochs of pretraining; 0 for the checkpoint's blocks unchanged", "SC-MBM", ge=0)
    warmup_epochs: int = key(40, "epochs of linear warm-up", "SC-MBM", ge=0)
    batch_size: int = key(100, "windows per batch", "SC-MBM", ge=1)
    learning_rate: float = key(2.5e-4, "peak learning rate of AdamW (0.9, 0.95), with cosine decay to 0", "SC-MBM", gt=0)
    weight_decay: float = key(0.05, "weight decay of AdamW", "SC-MBM")
    grad_clip: float = key(0.8, "maximum gradient norm", "SC-MBM", gt=0)

    @model_validator(mode="after")
    def _check_heads(self) -> ScMbmSettings:
        if self.dim % self.n_heads or self.decoder_dim % self.n_heads:
            raise ValueError(f"dim {self.dim} and decoder_dim {self.decoder_dim} must be divisible by n_heads {self.n_heads}")
        return self


class AdaptorSettings(Section):
    """The nonlinear low-rank adaptor (figure 2) of query projections and MLPs in SC-MBM and the video Q-Former."""

    rank: int = key(16, "width of the bottleneck", "practice", ge=1)
    activation: Literal["gelu", "relu", "silu"] = key("gelu", "nonlinearity in the bottleneck", "practice")
    scale: float = key(1.0, "scaling factor of the adaptor's output", "practice")
