"""Any video-text model of transformers: sampled frames and an instruction in, text out.

The folder's `config.json` selects one of transformers' classes; no code in the folder is run. Frames are passed in one of two ways:

- as a *video*, with the time of each frame, through the model's video processor, which needs torchvision.
- as a sequence of *images*, through its Pillow image processor. The model sees the order of the frames but not their times.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata

from boldscribe.machinery.errors import UserError

log = logging.getLogger(__name__)

FramesAs = Literal["video", "images"]
LOCAL = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Timing:
    """Positions of the frames sampled from a clip.

    Attributes:
        n_frames: frames of the whole clip.
        fps: its frames per second.
        indices: of the sampled frames.
    """

    n_frames: int
    fps: float
    indices: Sequence[int]


class VideoTextModel(nn.Module):
    """A model with its processor.

    Args:
        model, processor: from transformers.
        frames_as: how frames are passed.
    """

    def __init__(self, model: Any, processor: Any, frames_as: FramesAs) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.frames_as = frames_as
        processor.tokenizer.padding_side = "left"

    @classmethod
    def load(cls, folder: Path, frames_as: FramesAs, dtype: Literal["float32", "bfloat16"]) -> VideoTextModel:
        """Load a model from a folder as on the hub: weights (safetensors), tokenizer, processor and chat template.

        Raises:
            UserError: not a video-text model of transformers, no chat template, or a video processor without torchvision.
        """
        try:
            config = AutoConfig.from_pretrained(folder, **LOCAL)
        except (ValueError, OSError) as error:
            raise UserError(str(folder / "config.json"), f"cannot be read as a model's configuration: {error}") from None
        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or type(config) not in PROCESSOR_MAPPING:
            raise UserError(
                str(folder / "config.json"),
                f"model_type: found {config.model_type!r}, expected a video-text model supported by transformers, such as qwen3_vl, "
                "smolvlm or video_llama_3; code shipped in the folder is not run",
            )
        processor = load_processor(folder, frames_as, config)
        if not (processor.chat_template or processor.tokenizer.chat_template):
            raise UserError(str(folder), "found no chat template, expected one of an instruction-tuned model (chat_template.jinja)")
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True, **LOCAL)
        way = "a video with frame times" if frames_as == "video" else "a sequence of images without times"
        log.info("%s of %s receives the frames of a clip as %s", type(model).__name__, folder, way)
        return cls(model, processor, frames_as)

    @torch.inference_mode()
    def answer(
        self,
        frames_BTHWC: NDArray[np.uint8],
        timings: Sequence[Timing] | None,
        instructions: Sequence[str],
        *,
        max_new_tokens: int,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> list[str]:
        """Answer one instruction about each clip, all in one batch.

        Args:
            frames_BTHWC: uint8 RGB frames (B, T, height, width, 3).
            timings: of each clip if frames are passed as a video; None for images.
            instructions: of each clip.
            max_new_tokens: maximum length of an answer.
            do_sample, temperature, top_p: nucleus sampling; otherwise greedy.

        Returns:
            B stripped texts, without prompt and special tokens.
        """
        inputs = self.prepare(frames_BTHWC, timings, instructions)
        sampling = {"temperature": temperature, "top_p": top_p} if do_sample else {"temperature": None, "top_p": None}
        tokenizer = self.processor.tokenizer
        ids = self.model.generate(
            **inputs,
            **sampling,
            do_sample=do_sample,
            top_k=None,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            min_new_tokens=1,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
        answers = ids[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def prepare(self, frames_BTHWC: NDArray[np.uint8], timings: Sequence[Timing] | None, instructions: Sequence[str]) -> dict[str, Any]:
        """Prepare the model's input for a batch: padded on the left, on the model's device, pixels in its precision."""
        options: dict[str, Any] = {"padding": True}
        if timings is not None:
            options |= {"do_sample_frames": False, "video_metadata": [[_metadata(timing)] for timing in timings]}
        elif hasattr(self.processor.image_processor, "do_image_splitting"):
            options["do_image_splitting"] = False  # keep frames whole, as video processors do
        inputs = self.processor.apply_chat_template(
            [_conversation(clip, text, self.frames_as) for clip, text in zip(frames_BTHWC, instructions, strict=True)],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        ).to(self.model.device)
        return {name: x.to(self.model.dtype) if name.startswith("pixel_values") else x for name, x in inputs.items()}


def load_processor(folder: Path, frames_as: FramesAs, config: Any) -> Any:
    """Load the processor of a model, with either its video processor or its Pillow image processor.

    Raises:
        UserError: a video processor is requested but torchvision is not installed.
    """
    if frames_as == "video":
        if not is_torchvision_available():
            raise UserError(
                "captioner.frames_as",
                "found 'video', which needs torchvision, but it is not installed; install the build for this torch version, or set "
                "'images', which passes the frames without their times (docs/captioners.md)",
            )
        import torchvision  # used by transformers' video processors; imported here so that records hold its version

        log.info("frames are processed by torchvision %s", torchvision.__version__)
        return AutoProcessor.from_pretrained(folder, **LOCAL)
    of_family = PROCESSOR_MAPPING[type(config)]
    kind: Any = type(of_family.__name__, (_WithoutVideo, of_family), {})
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL),
        "tokenizer": AutoTokenizer.from_pretrained(folder, **LOCAL),
        "video_processor": _NoVideoProcessor(),
    }
    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    return kind.from_args_and_dict([parts[name] for name in kind.get_attributes()], settings)


class _NoVideoProcessor(VideoProcessorMixin):
    """Placeholder for a processor's mandatory video processor; it never receives a video."""

    num_frames = fps = None


class _WithoutVideo:
    """Mixin for processors without torchvision, where transformers does not know the class to check a video processor against."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == "video_processor":
            return VideoProcessorMixin
        return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[misc]


def _conversation(frames_THWC: NDArray[np.uint8], instruction: str, frames_as: FramesAs) -> list[dict[str, Any]]:
    """A single user turn that shows a clip and asks about it."""
    frames_THWC = np.array(frames_THWC)  # copied from a memory map, which torch must not write to
    shown = (
        [{"type": "video", "video": frames_THWC}]
        if frames_as == "video"
        else [{"type": "image", "image": Image.fromarray(frame)} for frame in frames_THWC]
    )
    return [{"role": "user", "content": [*shown, {"type": "text", "text": instruction}]}]


def _metadata(timing: Timing) -> VideoMetadata:
    duration = timing.n_frames / timing.fps
    return VideoMetadata(total_num_frames=timing.n_frames, fps=timing.fps, duration=duration, frames_indices=list(timing.indices))
