"""Frozen video features, computed once per clip as input of the video Q-Former, and the video tokens that it outputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array, save_array
from boldscribe.models.device import best_device
from boldscribe.models.video_llama import encode_frames, load_encoder, load_frame_tokens, load_video_q_former
from boldscribe.stimuli.familiarity import load_familiar_clips, mean_tokens, warning

CLIPS_PER_BATCH = 8
log = logging.getLogger(__name__)


def write_features(config: Config, *, frames: Path, models_dir: Path, output: Path) -> None:
    """Encode the frames of a shard with the frozen visual encoder and image Q-Former.

    Writes float16 (clips, T·L, d), with frame positions added; the header lists `clips`, and as `unlike` those that the connectors do
    not know (`boldscribe.stimuli.familiarity`), if there are any.
    """
    images, header = load_array(frames)
    device = best_device()
    encoder = load_encoder(config, models_dir).to(device)
    to_tokens = load_frame_tokens(config, encoder.width).to(device)
    L, d = config.video_llama.q_former.n_queries, config.video_llama.q_former.hidden_size
    familiar = load_familiar_clips(config.video_llama.connectors)
    unlike: list[str] = []
    features = np.empty((len(images), images.shape[1] * L, d), np.float16)
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), CLIPS_PER_BATCH), "features", mininterval=5):
            rows = slice(start, start + CLIPS_PER_BATCH)
            visual = encode_frames(encoder, torch.from_numpy(images[rows].copy()).to(device))
            features[rows] = to_tokens(visual).half().cpu().numpy()
            if familiar:
                unlike += familiar.unlike(header["clips"][rows], mean_tokens(visual).cpu())
    if unlike:
        log.warning("%s", warning(unlike, len(images)))
    told = {"unlike": unlike} if unlike else {}
    save_array(output, features, axes=["clip", "frame token", "feature"], clips=header["clips"], **told)


def video_tokens(config: Config, features: Sequence[Path], clips: Sequence[str], device: torch.device, batch_size: int = 64) -> Tensor:
    """Compute x_NLD of a sequence of clips from cached features with the frozen video Q-Former; each clip is encoded once.

    Raises:
        UserError: a clip is in no shard.
    """
    q_former = load_video_q_former(config).to(device)
    tokens: dict[str, Tensor] = {}
    wanted = set(clips)
    for path in features:
        array, header = load_array(path)
        rows = [i for i, clip in enumerate(header["clips"]) if clip in wanted]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            with torch.no_grad():
                x_BLD = q_former(torch.from_numpy(array[batch]).float().to(device))
            tokens.update({header["clips"][i]: x for i, x in zip(batch, x_BLD, strict=True)})
    if absent := sorted(wanted - tokens.keys()):
        raise UserError(
            ", ".join(map(str, features)), f"found no features for {len(absent)} clip(s) ({', '.join(absent[:3])}); encode again"
        )
    return torch.stack([tokens[clip] for clip in clips])
