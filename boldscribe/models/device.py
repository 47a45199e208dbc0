"""Device and precision of models."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """Return a GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context with matrix products and convolutions in `precision`, the rest unchanged; a no-op for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
