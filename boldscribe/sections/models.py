"""Sections of the configuration: the models, and the training of those that come before Stage I."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from boldscribe.sections.base import PLACEHOLDER, QUESTION, Section, key


class QFormer(Section):
    """Widths of the image and the video Q-Former."""

    n_queries: int = key(32, "learned query tokens, L", "paper 3.1", ge=1)
    hidden_size: int = key(768, "width of the tokens, d", "Video-LLaMA", ge=1)
    image_layers: int = key(12, "layers of the image Q-Former", "Video-LLaMA", ge=1)
    video_layers: int = key(2, "layers of the video Q-Former", "Video-LLaMA", ge=1)
    n_heads: int = key(12, "attention heads", "Video-LLaMA", ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> QFormer:
        if self.hidden_size % self.n_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by n_heads {self.n_heads}")
        return self


class VideoLlama(Section):
    """The frozen video-language model: it captions the clips, and its LLM decodes the brain."""

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
    q_former: QFormer = Field(default_factory=QFormer)
    connectors: str = key("models/video-llama-2-7b/connectors.safetensors", "trained Q-Formers and projection", "Video-LLaMA")
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "precision of the LLM", "Video-LLaMA")
    prompt: str = key(
        "[INST] <<SYS>>\nYou are able to understand the visual content that the user provides. Follow the instructions carefully and "
        "explain your answers in detail.\n<</SYS>>\n\n<Video><ImageHere></Video> {instruction} [/INST]",
        "prompt template; <ImageHere> is replaced by the L tokens; docs/weights.md has Vicuna's",
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
        "each fMRI record is assigned one at random",
        "paper 3.2 and 4.2; practice",
        min_length=1,
    )
    stop: list[list[int]] = key(
        [],
        "sequences of token ids that end an answer, beside the tokenizer's end token; Vicuna: [[835], [2277, 29937]]",
        "Video-LLaMA",
    )
    do_sample: bool = key(True, "sample the pseudo-captions", "Video-LLaMA")
    temperature: float = key(1.0, "sampling temperature of the pseudo-captions", "Video-LLaMA", gt=0)
    top_p: float = key(0.9, "nucleus of the pseudo-captions", "Video-LLaMA", gt=0, le=1)
    max_new_tokens: int = key(300, "longest pseudo-caption (tokens)", "Video-LLaMA", ge=1)
    batch_size: int = key(128, "clips per batch", "ours: 7B and its cache take 40 GB", ge=1)

    @model_validator(mode="after")
    def _check_prompt(self) -> VideoLlama:
        if self.prompt.count(PLACEHOLDER) != 1 or QUESTION not in self.prompt:
            raise ValueError(f"prompt: expected one {PLACEHOLDER} and {QUESTION}, found {self.prompt!r}")
        return self


class Captioner(Section):
    """Which model writes the pseudo-captions that Stage II learns and the references that texts are scored against (docs/captioners.md)."""

    kind: Literal["video_llama", "video_text"] = key(
        "video_llama", "Video-LLaMA as configured in video_llama, or another video-text model that transformers has", "paper 3.2"
    )
    alignment_target: Literal["video_llama"] = key(
        "video_llama",
        "whose video tokens x Stage I aligns fMRI with, and whose LLM decodes: Video-LLaMA's, whatever model captions, since others have "
        "no L x d tokens of a Q-Former; Stage II then teaches the bridge to say through Video-LLaMA's LLM what the other model wrote",
        "paper 3.2; Video-LLaMA",
    )
    model: str | None = key(None, "video_text: folder of the model as its hub has it (safetensors, tokenizer, processor)", "ours")
    hub_name: str | None = key(None, "video_text: its name on the hub, OWNER/NAME", "ours")
    revision: str | None = key(None, "video_text: commit of hub_name, 40 hexadecimal digits", "ours", pattern="^[0-9a-f]{40}$")
    frames_as: Literal["video", "images"] = key(
        "video",
        "video_text: hand the frames over as a video with its times, which needs torchvision, or as a sequence of images without times",
        "ours",
    )
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "video_text: precision; that of Video-LLaMA is video_llama.dtype", "ours")
    batch_size: int = key(8, "video_text: clips per batch; that of Video-LLaMA is video_llama.batch_size", "ours", ge=1)

    @model_validator(mode="after")
    def _check_origin(self) -> Captioner:
        absent = [name for name in ("model", "hub_name", "revision") if not getattr(self, name)]
        if self.kind == "video_text" and absent:
            raise ValueError(f"kind video_text needs {', '.join(absent)}: which model it is, and from which commit, must be said")
        return self

    @property
    def author(self) -> str:
        """Name of the model that writes the captions, with its revision."""
        return {"video_llama": "Video-LLaMA", "video_text": f"{self.hub_name} (revision {self.revision})"}[self.kind]


class Connectors(Section):
    """Training of the miniature Video-LLaMA's connectors on rendered clips that no data set uses."""

    n_clips: int = key(2500, "rendered training clips", "ours", ge=2)
    n_test_clips: int = key(240, "rendered clips, unseen in training, on which the captions are judged", "ours", ge=1)
    alignment_epochs: int = key(14, "epochs of video-text contrast without the LLM", "ours: after BLIP-2's first stage", ge=1)
    caption_epochs: int = key(2, "epochs of captioning through the frozen LLM", "ours: after BLIP-2's second stage", ge=1)
    batch_size: int = key(32, "clips per batch of the contrast", "ours", ge=2)
    caption_batch_size: int = key(8, "clips per batch of captioning", "ours", ge=1)
    learning_rate: float = key(3e-4, "AdamW; the projection learns ten times faster, the aligned Q-Formers three times slower", "ours")


class Tokenizer(Section):
    """3-D CNN: T volumes to super-voxel tokens."""

    grid: tuple[int, int, int] = key((96, 112, 96), "voxels that the template-space BOLD is cropped or padded to", "practice")
    channels: list[int] = key([64, 128, 256, 512], "channels of the stride-2 stages", "practice", min_length=1)
    token_maps: Literal["shared", "local"] = key(
        "shared",
        "map from the last stage to tokens: one for the whole brain, or one of its own for each super-voxel, which few trials need",
        "practice; ours",
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Tokenizer:
        stride = 2 ** len(self.channels)
        if any(n % stride for n in self.grid):
            raise ValueError(
                f"grid {self.grid} is not divisible by {stride}, the stride of {len(self.channels)} stages; change grid or channels"
            )
        return self


class ScMbm(Section):
    """Sparse-coded masked brain modelling: the fMRI encoder and its pretraining."""

    checkpoint: str | None = key(
        None, "converted weights (docs/weights.md) from which the blocks start; null for random ones", "paper 3.1: pretrained on HCP"
    )
    dim: int = key(1024, "width", "SC-MBM", ge=1)
    depth: int = key(24, "blocks", "SC-MBM", ge=1)
    n_heads: int = key(16, "attention heads, of encoder and decoder", "SC-MBM", ge=1)
    mlp_ratio: float = key(1.0, "MLP width over dim", "SC-MBM", gt=0)
    decoder_dim: int = key(512, "width of the pretraining decoder", "SC-MBM", ge=1)
    decoder_depth: int = key(8, "blocks of the pretraining decoder", "SC-MBM", ge=1)
    mask_ratio: float = key(0.75, "share of masked tokens", "SC-MBM", gt=0, lt=1)
    epochs: int = key(500, "epochs of pretraining; 0 takes the blocks as the checkpoint has them", "SC-MBM", ge=0)
    warmup_epochs: int = key(40, "epochs of linear warm-up", "SC-MBM", ge=0)
    batch_size: int = key(100, "windows per batch", "SC-MBM", ge=1)
    learning_rate: float = key(2.5e-4, "AdamW (0.9, 0.95), cosine to 0", "SC-MBM", gt=0)
    weight_decay: float = key(0.05, "AdamW", "SC-MBM")
    grad_clip: float = key(0.8, "gradient norm", "SC-MBM", gt=0)

    @model_validator(mode="after")
    def _check_heads(self) -> ScMbm:
        if self.dim % self.n_heads or self.decoder_dim % self.n_heads:
            raise ValueError(f"dim {self.dim} and decoder_dim {self.decoder_dim} must be divisible by n_heads {self.n_heads}")
        return self


class Adaptor(Section):
    """The nonlinear low-rank adaptor (figure 2): query projection and MLP of SC-MBM and of the video Q-Former."""

    rank: int = key(16, "width of the bottleneck", "practice", ge=1)
    activation: Literal["gelu", "relu", "silu"] = key("gelu", "nonlinearity", "practice")
    scale: float = key(1.0, "factor of the adaptor's output", "practice")
