"""The paper's losses, one function per equation, in its order; the cross-entropy (3) is `PromptedLlm.caption_loss`.

Where the paper is silent or contradicts itself, the decision stands in the docstring.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize


def cosine_similarity(z_BLD: Tensor, x_CLD: Tensor) -> Tensor:
    """Cosines of each fMRI embedding and each video embedding, (B, C); an embedding is the mean of a sample's tokens."""
    return normalize(z_BLD.mean(1), dim=1) @ normalize(x_CLD.mean(1), dim=1).T


def clip_loss(z_BLD: Tensor, x_BLD: Tensor, temperature: Tensor | float) -> Tensor:
    """Equation 1: contrast of matching fMRI and video embeddings against all others of the batch, in both directions.

    The paper compares one vector per sample and does not say how L tokens become one: their mean. Its sum over the two
    directions has no factor 1/2; nor has this.

    Args:
        z_BLD: fMRI tokens.
        x_BLD: video tokens of the same samples.
        temperature: tau.
    """
    similarity_BB = cosine_similarity(z_BLD, x_BLD) / temperature
    return -(log_softmax(similarity_BB, dim=1).diagonal() + log_softmax(similarity_BB, dim=0).diagonal()).mean()


def l2_l1_loss(z_BLD: Tensor, x_BLD: Tensor, alpha: float) -> Tensor:
    """Equation 2: (1 - alpha) squared L2 distance + alpha L1 distance of each token, mean over samples and tokens.

    The norms are divided by the width d, so that the weights mean the same for models of any width.
    """
    difference = z_BLD - x_BLD
    return ((1 - alpha) * difference.square() + alpha * difference.abs()).mean()


def stage1_loss(clip: Tensor, reconstruction: Tensor, beta: float) -> Tensor:
    """L_Total of Stage I: beta L_CLIP + (1 - beta) L_L2L1."""
    return beta * clip + (1 - beta) * reconstruction


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
    """log p_ij of equation 4: how near each target feature is to the bank's features and the classifier's rows.

    The equation compares a sample with all others (j != i) as the bank remembers them. With `live`, those of the same batch are
    taken as they are now instead, as in the method's original code: only then do both sides of a pair feel the gradient.

    What does not count has a logit of minus infinity. The finite stand-in of the original code, -1/temperature, is harmless at
    its temperature of 0.05, but not at the paper's 0.5; it is kept for comparison.

    Args:
        f_BD: target features, of unit length.
        own_B: index of each one's own slot in the bank.
        memory_ND: bank of target features, of unit length.
        prototypes_CD: rows of the classifier, of unit length.
        temperature: tau.
        live: compare with the batch as it is; its slots in the bank then do not count.
        masked_logit: logit of what does not count.
        live_BD: the batch of which f_BD is a part, from row `first` on (several processes); None if it is the whole. `own_B` is
            then that of the whole batch.

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
    """Equation 5: drives the entropy of each target sample's class probabilities away from a threshold, beyond a margin.

    The text speaks of source samples too; the equation does not touch them, and nor does this.

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
