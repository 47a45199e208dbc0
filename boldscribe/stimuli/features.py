"""Frozen video features: the input of the video Q-Former, computed once per clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.files import load_array, save_array
from boldscribe.models.device import best_device
from boldscribe.models.video_llama import encode_frames, load_encoder, load_frame_tokens

CLIPS_PER_BATCH = 8


def write_features(config: Config, *, frames: Path, models_dir: Path, output: Path) -> None:
    """Encode the frames of a shard with the frozen visual encoder and image Q-Former.

    Writes float16 (clips, T·L, d), frame positions added; the header lists `clips`.
    """
    images, header = load_array(frames)
    device = best_device()
    encoder = load_encoder(config, models_dir).to(device)
    to_tokens = load_frame_tokens(config, encoder.width).to(device)
    L, d = config.video_llama.q_former.n_queries, config.video_llama.q_former.hidden_size
    features = np.empty((len(images), images.shape[1] * L, d), np.float16)
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), CLIPS_PER_BATCH), "features", mininterval=5):
            rows = slice(start, start + CLIPS_PER_BATCH)
            visual = encode_frames(encoder, torch.from_numpy(images[rows].copy()).to(device))
            features[rows] = to_tokens(visual).half().cpu().numpy()
    save_array(output, features, axes=["clip", "frame token", "feature"], clips=header["clips"])
