"""Captioners that answer instructions about a shard's clips: the pipeline's Video-LLaMA, or any video-text model of transformers.

In both cases, fMRI is aligned with Video-LLaMA's tokens and decoded by its LLM (`captioner.alignment_target`, docs/captioners.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array
from boldscribe.models.device import best_device
from boldscribe.models.hub_folder import check_hub_folder, stated_revisions
from boldscribe.models.model_names import connectors, language_model
from boldscribe.models.video_llama import load_llm, load_projection, load_video_q_former, model_folder
from boldscribe.models.video_text import Timing, VideoTextModel


class Captioner(Protocol):
    """A model that answers questions about a shard of clips.

    Attributes:
        clips: names of the shard's clips.
        batch_size: questions per batch.
        origin: identity of the model, for the file of its captions; `unlike` lists the clips that it does not know, if there are any.
    """

    clips: list[str]
    batch_size: int
    origin: dict[str, Any]

    def answer(self, clips: Sequence[str], instructions: Sequence[str]) -> list[str]:
        """Answer the instruction of each clip, sampled or greedy as chosen at loading."""


def load_captioner(config: Config, shard: Path, models_dir: Path, *, sampled: bool) -> Captioner:
    """Load the configured captioner.

    Args:
        config: the experiment.
        shard: features of the clips for Video-LLaMA, frames for a video-text model.
        models_dir: folder of the provided models.
        sampled: sample answers at the temperature of `video_llama`; otherwise decode greedily.
    """
    if config.captioner.kind == "video_text":
        return VideoTextCaptioner(config, shard, models_dir, sampled=sampled)
    return VideoLlamaCaptioner(config, shard, models_dir, sampled=sampled)


class VideoLlamaCaptioner:
    """Captioner that passes cached features through video Q-Former and projection to the prompted LLM (paper 3.2).

    Args:
        config: the experiment.
        features: input of the video Q-Former (`write_features`).
        models_dir: folder of the provided models.
        sampled: see `load_captioner`.
    """

    def __init__(self, config: Config, features: Path, models_dir: Path, *, sampled: bool) -> None:
        self.settings, self.sampled = config.video_llama, sampled
        self.batch_size = self.settings.batch_size
        self.tokens, header = load_array(features)
        self.clips = header["clips"]
        author = f"{language_model(self.settings)} with {connectors(self.settings)}"
        self.origin = {"kind": "video_llama", "author": author, **{key: header[key] for key in ("unlike",) if key in header}}
        self.device = best_device()
        self.llm = load_llm(config, models_dir).to(self.device)
        self.q_former, self.projection = load_video_q_former(config).to(self.device), load_projection(config).to(self.device)
        self._row = {clip: i for i, clip in enumerate(self.clips)}

    def answer(self, clips: Sequence[str], instructions: Sequence[str]) -> list[str]:
        """See `Captioner`."""
        with torch.inference_mode():
            tokens = torch.from_numpy(self.tokens[[self._row[c] for c in clips]]).float().to(self.device)
            soft = self.projection(self.q_former(tokens))
        return self.llm.generate(
            instructions,
            soft,
            max_new_tokens=self.settings.max_new_tokens,
            batch_size=self.batch_size,
            do_sample=self.sampled,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
        )


class VideoTextCaptioner:
    """Captioner that passes frames and instruction to a video-text model, through its chat template.

    Args:
        config: the experiment.
        frames: frames of the clips (`write_frames`).
        models_dir: folder of the provided models.
        sampled: see `load_captioner`.

    Raises:
        UserError: the model's folder does not match the configuration, or clips with unknown times are to be shown as a video.
    """

    def __init__(self, config: Config, frames: Path, models_dir: Path, *, sampled: bool) -> None:
        captioner, settings = config.captioner, config.video_llama
        self.batch_size = captioner.batch_size
        self.frames, header = load_array(frames)
        self.clips = header["clips"]
        folder = model_folder(captioner.model or "", "captioner", models_dir)
        check_hub_folder(folder, captioner.revision or "")
        self.model = VideoTextModel.load(folder, captioner.frames_as, captioner.dtype)
        self.model.to(best_device())
        self.origin = {
            "kind": "video_text",
            "author": captioner.author,
            "architecture": type(self.model.model).__name__,
            "revision_stated_by_folder": sorted(stated_revisions(folder)),
            "frames_as": captioner.frames_as,
        }
        self.sampling: dict[str, Any] = {
            "max_new_tokens": settings.max_new_tokens,
            "do_sample": sampled,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
        self._row = {clip: i for i, clip in enumerate(self.clips)}
        self._timings = timings(frames, header) if captioner.frames_as == "video" else None

    def answer(self, clips: Sequence[str], instructions: Sequence[str]) -> list[str]:
        """See `Captioner`."""
        rows = [self._row[c] for c in clips]
        shown = None if self._timings is None else [self._timings[r] for r in rows]
        return self.model.answer(self.frames[rows], shown, instructions, **self.sampling)


def timings(frames: Path, header: dict[str, Any]) -> list[Timing]:
    """Positions of the frames sampled from each clip, from their header.

    Raises:
        UserError: the file of a clip states no frame rate.
    """
    if unknown := [clip for clip, rate in zip(header["clips"], header["frames_per_second"], strict=True) if not rate]:
        raise UserError(
            str(frames),
            f"the frame rate, and hence the frame times, of {', '.join(unknown[:5])} is unknown; set captioner.frames_as: images",
        )
    columns = (header["clip_frames"], header["frames_per_second"], header["frame_index"])
    return [Timing(n, rate, indices) for n, rate, indices in zip(*columns, strict=True)]
