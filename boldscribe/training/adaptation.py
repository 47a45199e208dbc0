"""Unsupervised domain adaptation (equations 4 and 5): the memory bank, and both losses under the configured reading."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from boldscribe.config.training_settings import Stage2Settings
from boldscribe.losses import (
    Reading,
    class_logits,
    entropy_separation_loss,
    neighbourhood_clustering_loss,
    neighbourhood_probabilities,
)


class MemoryBank:
    """Unit features of all N target samples, each in the slot of its data set index; overwritten, never trained.

    Args:
        features_ND: initial features, of any length.
        momentum: share of the old feature that is kept.
    """

    def __init__(self, features_ND: Tensor, momentum: float = 0.0) -> None:
        self.features_ND = normalize(features_ND.detach(), dim=1)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, own_B: Tensor, features_BD: Tensor) -> None:
        """Update the slots `own_B` with new features of unit length."""
        mixed = self.momentum * self.features_ND[own_B] + (1 - self.momentum) * features_BD.detach()
        self.features_ND[own_B] = normalize(mixed, dim=1)


@dataclass
class Target:
    """A batch of target samples.

    Attributes:
        features_BD: unit features of this process's part of the batch.
        batch_BD: those of the whole batch; the same tensor if there is one process.
        own_B: slots of the whole batch in the bank.
        first: index in the batch at which this process's part starts.
    """

    features_BD: Tensor
    batch_BD: Tensor
    own_B: Tensor
    first: int = 0


def adaptation_losses(
    settings: Stage2Settings, target: Target, bank: MemoryBank, prototypes_CD: Tensor, adaptation: str | None = None
) -> dict[str, Tensor]:
    """Compute L_NC and L_ES of a batch (`neighbourhood`, `entropy`), zero if the adaptation excludes one.

    Args:
        settings: the numbers of both readings.
        target: the batch.
        bank: all target samples as last seen.
        prototypes_CD: unit rows of the classifier head.
        adaptation: `none`, `nc`, `es` or `both`; by default that of the settings.
    """
    reading = Reading.of(settings.preset, settings.es_margin, settings.nc_temperature)
    acting = adaptation or settings.adaptation
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
            class_logits(target.features_BD, prototypes_CD),
            margin=settings.es_margin,
            threshold=settings.es_threshold,
            inside=reading.inside,
            epsilon=reading.epsilon,
        )
    return losses
