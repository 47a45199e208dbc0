"""The paper's losses, one function per equation, in its order; the cross-entropy (3) is `PromptedLlm.caption_loss`.

Where the paper is silent or contradicts itself, the decision stands in the docstring.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize


def clip_loss(z_BLD: Tensor, x_BLD: Tensor, temperature: Tensor | float) -> Tensor:
    """Equation 1: contrast of matching fMRI and video embeddings against all others of the batch, in both directions.

    The paper compares one vector per sample and does not say how L tokens become one: their mean. Its sum over the two
    directions has no factor 1/2; nor has this.

    Args:
        z_BLD: fMRI tokens.
        x_BLD: video tokens of the same samples.
        temperature: tau.
    """
    z_BD, x_BD = normalize(z_BLD.mean(1), dim=1), normalize(x_BLD.mean(1), dim=1)
    similarity_BB = z_BD @ x_BD.T / temperature
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


def neighbourhood_probabilities(f_BD: Tensor, own_B: Tensor, memory_ND: Tensor, prototypes_CD: Tensor, temperature: float) -> Tensor:
    """log p_ij of equation 4: how near each target feature is to the bank's features and the classifier's rows.

    A sample's own slot in the bank is excluded (j = i) by a logit of minus infinity: the finite stand-in that the method's
    original code uses is harmless at its temperature of 0.05, but not at the paper's 0.5.

    Args:
        f_BD: target features, of unit length.
        own_B: index of each one's own slot in the bank.
        memory_ND: bank of target features, of unit length.
        prototypes_CD: rows of the classifier, of unit length.
        temperature: tau.

    Returns:
        (B, N + C) log probabilities.
    """
    logits = torch.cat([f_BD @ memory_ND.T, f_BD @ prototypes_CD.T], dim=1) / temperature
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[torch.arange(len(f_BD)), own_B] = True
    return log_softmax(logits.masked_fill(own, -math.inf), dim=1)


def neighbourhood_clustering_loss(f_BD: Tensor, own_B: Tensor, memory_ND: Tensor, prototypes_CD: Tensor, temperature: float) -> Tensor:
    """Equation 4: mean entropy of p_i over the N + C entries (the paper's N + K is a slip for N + C), with 0 log 0 = 0."""
    log_p = neighbourhood_probabilities(f_BD, own_B, memory_ND, prototypes_CD, temperature)
    return -(log_p.exp() * log_p.masked_fill(log_p.isneginf(), 0)).sum(1).mean()


def entropy_separation_loss(logits_BC: Tensor, *, margin: float, threshold: float | None = None) -> Tensor:
    """Equation 5: drives the entropy of each target sample's class probabilities away from a threshold, beyond a margin.

    The text speaks of source samples too; the equation does not touch them, and nor does this.

    Args:
        logits_BC: the classifier head's outputs.
        margin: m.
        threshold: rho; None for log(C)/2.
    """
    rho = math.log(logits_BC.shape[1]) / 2 if threshold is None else threshold
    log_p = log_softmax(logits_BC, dim=1)
    distance = (-(log_p.exp() * log_p).sum(1) - rho).abs()
    return torch.where(distance > margin, -distance, torch.zeros_like(distance)).mean()


def stage2_loss(cross_entropy: Tensor, adaptation: Tensor, lambda_: float) -> Tensor:
    """Equation 6: lambda L_CE + (1 - lambda) L_DomainAdaptation."""
    return lambda_ * cross_entropy + (1 - lambda_) * adaptation
