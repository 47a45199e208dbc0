"""Names of the models that were loaded, for tables, captions and reports: the embedded models by name, all others by their place."""

from __future__ import annotations

import json
from pathlib import Path

from boldscribe.config.model_settings import VideoLlamaSettings

EMBEDDED = "embedded"
EMBEDDED_LLM, EMBEDDED_ENCODER = "SmolLM2-135M-Instruct", "EfficientNet-Lite0"  # see `embedded_models`


def is_miniature(settings: VideoLlamaSettings) -> bool:
    """Return whether a part of the video model is embedded or was trained on rendered clips: then it is not Video-LLaMA."""
    return EMBEDDED in (settings.llm, settings.visual_encoder) or _rendered_clips(settings.connectors) is not None


def language_model(settings: VideoLlamaSettings) -> str:
    """Name the LLM, which captions and decodes."""
    return EMBEDDED_LLM if settings.llm == EMBEDDED else f"the language model {settings.llm}"


def video_model(settings: VideoLlamaSettings) -> str:
    """Name the video model, with its parts."""
    encoder = EMBEDDED_ENCODER if settings.visual_encoder == EMBEDDED else f"the visual encoder {settings.visual_encoder}"
    parts = f"{encoder}, {language_model(settings)}, and {connectors(settings)}"
    return f"a miniature video model ({parts})" if is_miniature(settings) else f"Video-LLaMA ({parts})"


def connectors(settings: VideoLlamaSettings) -> str:
    """Name the connectors between visual encoder and LLM."""
    n_clips = _rendered_clips(settings.connectors)
    return f"the connectors {settings.connectors}" if n_clips is None else f"connectors trained on {n_clips:,} rendered clips"


def _rendered_clips(path: str) -> int | None:
    """Return how many rendered clips connectors were trained on, by the record next to them; None if there is no such record."""
    try:
        n_clips: int = json.loads(Path(path).with_suffix(".json").read_text())["config"]["connectors"]["n_clips"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return n_clips
