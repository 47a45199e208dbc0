"""The paper's losses, one function per equation, in the paper's order.

Where the paper is silent or contradicts itself, the docstring states the decision. Equations 4 and 5 have two readings (`Reading`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize

CLASS_TEMPERATURE = 0.05  # of the classifier head's logits, which are cosines (Saito et al. 2020)


def cosine_similarity(z_BLD: Tensor, x_CLD: Tensor) -> Tensor:
    """Cosine similarity of each fMRI embedding to each video embedding, (B, C); an embedding is the mean of a sample's tokens."""
    return normalize(z_BLD.mean(1), dim=1) @ normalize(x_CLD.mean(1), dim=1).T


def clip_loss(z_BLD: Tensor, x_BLD: Tensor, temperature: Tensor | float) -> Tensor:
    """Equation 1: contrast of matching fMRI and video embeddings against all others of the batch, in both directions.

    The paper compares one vector per sample but does not state how L tokens become one; we take their mean. As in the paper, the
    sum over the two directions has no factor 1/2.

    Args:
        z_BLD: fMRI tokens.
        x_BLD: video tokens of the same samples.
        temperature: tau.
    """
    similarity_BB = cosine_similarity(z_BLD, x_BLD) / temperature
    return -(log_softmax(similarity_BB, dim=1).diagonal() + log_softmax(similarity_BB, dim=0).diagonal()).mean()


def l2_l1_loss(z_BLD: Tensor, x_BLD: Tensor, alpha: float) -> Tensor:
    """Equation 2: (1 - alpha) squared L2 distance + alpha L1 distance of each token, mean over samples and tokens.

    The norms are divided by the width d, so that the weights have the same meaning for models of any width.
    """
    difference = z_BLD - x_BLD
    return ((1 - alpha) * difference.square() + alpha * difference.abs()).mean()


def stage1_loss(clip: Tensor, reconstruction: Tensor, beta: float) -> Tensor:
    """L_Total of Stage I: beta L_CLIP + (1 - beta) L_L2L1."""
    return beta * clip + (1 - beta) * reconstruction


def answer_loss(logits_TV: Tensor, answer_T: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Equation 3: cross-entropy of answer tokens, each given everything before it.

    Args:
        logits_TV: of the T answer tokens of a batch, over the LLM's vocabulary; no others are scored.
        answer_T: their ids, end tokens included.
        reduction: `mean`, as usual for language models; the paper's equation sums over an answer's tokens.
    """
    return cross_entropy(logits_TV.float(), answer_T, reduction=reduction)


def class_logits(f_BD: Tensor, prototypes_CD: Tensor) -> Tensor:
    """Outputs of the classifier head g, (B, C): cosines of unit features and unit rows, over the head's temperature."""
    return f_BD @ prototypes_CD.T / CLASS_TEMPERATURE


def class_loss(logits_BC: Tensor, class_B: Tensor) -> Tensor:
    """Cross-entropy of source labels, which trains the head whose rows are the prototypes of equations 4 and 5.

    The paper has no equation for it, although the head must be trained somehow; this is the loss of Saito et al. 2020.
    """
    return cross_entropy(logits_BC, class_B)


@dataclass(frozen=True)
class Reading:
    """Constants of equations 4 and 5, for one reading of them.

    Attributes:
        temperature: tau of equation 4.
        masked_logit: logit of entries excluded from equation 4.
        epsilon: added to probabilities inside logarithms.
        inside: value of equation 5 for a sample inside the margin; the gradient is 0 regardless.
    """

    temperature: float
    masked_logit: float = -math.inf
    epsilon: float = 0.0
    inside: float = 0.0

    @classmethod
    def of(cls, preset: Literal["paper", "dance"], margin: float, temperature: float | None = None) -> Reading:
        """Build a reading: `paper` as printed, or `dance` as in the original code (Saito et al. 2020), with a constant in the logarithm.

        Args:
            preset: `paper` or `dance`.
            margin: m of equation 5; the original code uses -m inside the margin.
            temperature: tau instead of the preset's.
        """
        if preset == "paper":
            return cls(temperature or 0.5)
        return cls(temperature or 0.05, -1 / (temperature or 0.05), 1e-5, -margin)


def neighbourhood_probabilities(
    f_BD: Tensor,
    own_B: Tensor,
    memory_ND: Tensor,
    prototypes_CD: Tensor,
    temperature: float,
    *,
    live: bool = True,
    masked_logit: float = -math.inf,
    live_BD: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """log p_ij of equation 4: similarity of each target feature to the bank's features and the classifier's rows.

    The equation compares a sample with all others (j != i) as stored in the bank. With `live`, those of the same batch enter with
    their current features instead, as in the method's original code: only then does the gradient reach both sides of a pair.

    Excluded entries have a logit of minus infinity. The original code uses a finite -1/temperature, which is harmless at its
    temperature of 0.05, but not at the paper's 0.5; it is kept for comparison.

    Args:
        f_BD: target features, of unit length.
        own_B: index of each sample's slot in the bank.
        memory_ND: bank of target features, of unit length.
        prototypes_CD: rows of the classifier, of unit length.
        temperature: tau.
        live: compare with the current batch, and exclude its slots in the bank.
        masked_logit: logit of excluded entries.
        live_BD: the whole batch, if f_BD is only a part of it from row `first` on (several processes); `own_B` is then that of the
            whole batch.

    Returns:
        (B, N + C) log probabilities, or (B, N + C + B) with `live`.
    """
    batch_BD = f_BD if live_BD is None else live_BD
    rows = torch.arange(len(f_BD), device=f_BD.device)
    to_memory = f_BD @ memory_ND.T / temperature
    to_prototypes = f_BD @ prototypes_CD.T / temperature
    if not live:
        own = torch.zeros_like(to_memory, dtype=torch.bool)
        own[rows, own_B[first : first + len(f_BD)]] = True
        return log_softmax(torch.cat([to_memory.masked_fill(own, masked_logit), to_prototypes], dim=1), dim=1)
    in_batch = torch.zeros(len(memory_ND), dtype=torch.bool, device=f_BD.device)
    in_batch[own_B] = True
    to_batch = f_BD @ batch_BD.T / temperature
    itself = torch.zeros_like(to_batch, dtype=torch.bool)
    itself[rows, rows + first] = True
    logits = [to_memory.masked_fill(in_batch, masked_logit), to_prototypes, to_batch.masked_fill(itself, masked_logit)]
    return log_softmax(torch.cat(logits, dim=1), dim=1)


def neighbourhood_clustering_loss(log_p: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Equation 4: mean entropy of p_i over its entries (the paper's N + K is a slip for N + C), with 0 log 0 = 0.

    Args:
        log_p: of `neighbourhood_probabilities`.
        epsilon: added to p inside the logarithm, as the method's original code does.
    """
    return entropy(log_p, epsilon).mean()


def entropy(log_p: Tensor, epsilon: float = 0.0) -> Tensor:
    """-sum p log(p + epsilon) of each row, with 0 log 0 = 0 (nats)."""
    inside = (log_p.exp() + epsilon).log() if epsilon else log_p.masked_fill(log_p.isneginf(), 0)
    return -(log_p.exp() * inside).sum(1)


def entropy_separation_loss(
    logits_BC: Tensor, *, margin: float, threshold: float | None = None, inside: float = 0.0, epsilon: float = 0.0
) -> Tensor:
    """Equation 5: drives the entropy of each target sample's class probabilities away from a threshold, if it is outside a margin.

    The paper's text also mentions source samples; neither the equation nor this function uses them.

    Args:
        logits_BC: the classifier head's outputs.
        margin: m.
        threshold: rho; None for log(C)/2.
        inside: value of a sample inside the margin: 0 in the equation, -m in the method's original code. The gradient is 0 in both.
        epsilon: as in `neighbourhood_clustering_loss`.
    """
    rho = math.log(logits_BC.shape[1]) / 2 if threshold is None else threshold
    distance = (entropy(log_softmax(logits_BC, dim=1), epsilon) - rho).abs()
    return torch.where(distance > margin, -distance, torch.full_like(distance, inside)).mean()


def stage2_loss(cross_entropy: Tensor, adaptation: Tensor, lambda_: float) -> Tensor:
    """Equation 6: lambda L_CE + (1 - lambda) L_DomainAdaptation."""
    return lambda_ * cross_entropy + (1 - lambda_) * adaptation
