"""Learning rates as functions of the step, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def warmup_cosine(step: int, *, total: int, warmup: int, peak: float, end: float = 0.0) -> float:
    """Linear warm-up from 0 to `peak` over `warmup` steps, then half-cosine decay to `end`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return end + (peak - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the same learning rate for every parameter."""
    for group in optimiser.param_groups:
        group["lr"] = value


def adamw(parameters: Iterable[Tensor], weight_decay: float) -> torch.optim.AdamW:
    """Create AdamW (0.9, 0.95) without decay of biases, norms and other vectors, as in MinD-Vis."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}], lr=0.0, betas=(0.9, 0.95)
    )
