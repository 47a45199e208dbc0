"""Unsupervised domain adaptation (equations 4 and 5): the memory bank, and both losses under the configured reading.

Two readings. `paper` follows the equations, with the batch compared as it is (docs/method.md). `dance` computes what the method's
original code does (Saito et al. 2020): another temperature, a finite logit for what does not count, a constant inside the logarithm,
and -m inside the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from boldscribe.losses import entropy_separation_loss, neighbourhood_clustering_loss, neighbourhood_probabilities
from boldscribe.sections.training import Stage2

CLASS_TEMPERATURE = 0.05  # of the head's logits, which are cosines (Saito et al. 2020)


class MemoryBank:
    """Unit features of all N target samples, each in the slot of its index in the data set; overwritten, never trained.

    Args:
        features_ND: first features, any length.
        momentum: share of the old feature that is kept.
    """

    def __init__(self, features_ND: Tensor, momentum: float = 0.0) -> None:
        self.features_ND = normalize(features_ND.detach(), dim=1)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, own_B: Tensor, features_BD: Tensor) -> None:
        """Put new features of unit length into the slots `own_B`."""
        mixed = self.momentum * self.features_ND[own_B] + (1 - self.momentum) * features_BD.detach()
        self.features_ND[own_B] = normalize(mixed, dim=1)


@dataclass(frozen=True)
class Reading:
    """How equations 4 and 5 are computed."""

    temperature: float
    masked_logit: float
    epsilon: float
    inside_margin: float

    @classmethod
    def of(cls, settings: Stage2) -> Reading:
        """That of the configured preset; `nc_temperature` overrides the preset's."""
        if settings.preset == "paper":
            return cls(settings.nc_temperature or 0.5, -math.inf, 0.0, 0.0)
        temperature = settings.nc_temperature or 0.05
        return cls(temperature, -1 / temperature, 1e-5, -settings.es_margin)


@dataclass
class Target:
    """A batch of target samples.

    Attributes:
        features_BD: unit features of this process's part of the batch.
        batch_BD: those of the whole batch; the same tensor for one process.
        own_B: slots of the whole batch in the bank.
        first: where this process's part starts in it.
    """

    features_BD: Tensor
    batch_BD: Tensor
    own_B: Tensor
    first: int = 0


def adaptation_losses(
    settings: Stage2, target: Target, bank: MemoryBank, prototypes_CD: Tensor, adaptation: str | None = None
) -> dict[str, Tensor]:
    """L_NC and L_ES of a batch, zero where the adaptation leaves one out: `neighbourhood`, `entropy`.

    Args:
        settings: both readings' numbers.
        target: the batch.
        bank: all target samples as they were last seen.
        prototypes_CD: unit rows of the classifier head.
        adaptation: `none`, `nc`, `es` or `both`; that of the settings if not given.
    """
    reading, acting = Reading.of(settings), adaptation or settings.adaptation
    losses = {name: target.features_BD.new_zeros(()) for name in ("neighbourhood", "entropy")}
    if acting in ("nc", "both"):
        log_p = neighbourhood_probabilities(
            target.features_BD,
            target.own_B,
            bank.features_ND,
            prototypes_CD,
            reading.temperature,
            live=settings.nc_live,
            masked_logit=reading.masked_logit,
            live_BD=target.batch_BD,
            first=target.first,
        )
        losses["neighbourhood"] = neighbourhood_clustering_loss(log_p, epsilon=reading.epsilon)
    if acting in ("es", "both"):
        losses["entropy"] = entropy_separation_loss(
            target.features_BD @ prototypes_CD.T / CLASS_TEMPERATURE,
            margin=settings.es_margin,
            threshold=settings.es_threshold,
            inside=reading.inside_margin,
            epsilon=reading.epsilon,
        )
    return losses
