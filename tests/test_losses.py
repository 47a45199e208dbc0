"""Each equation against values worked out by plain loops over the paper's formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from boldscribe.losses import (
    clip_loss,
    entropy_separation_loss,
    l2_l1_loss,
    neighbourhood_clustering_loss,
    stage1_loss,
    stage2_loss,
)

RNG = np.random.default_rng(0)


def unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def test_clip_loss_equals_equation_1() -> None:
    z, x, tau = RNG.normal(size=(5, 3, 7)), RNG.normal(size=(5, 3, 7)), 0.05
    s = unit(z.mean(1)) @ unit(x.mean(1)).T
    expected = 0.0
    for i in range(5):
        expected -= math.log(math.exp(s[i, i] / tau) / sum(math.exp(s[i, j] / tau) for j in range(5)))
        expected -= math.log(math.exp(s[i, i] / tau) / sum(math.exp(s[k, i] / tau) for k in range(5)))
    assert clip_loss(torch.tensor(z), torch.tensor(x), tau).item() == pytest.approx(expected / 5)


def test_clip_loss_of_indistinguishable_samples_is_twice_log_of_their_number() -> None:
    same = torch.ones(6, 2, 4)
    assert clip_loss(same, same, 0.05).item() == pytest.approx(2 * math.log(6))


def test_clip_loss_teaches_the_temperature() -> None:
    log_temperature = torch.tensor(math.log(0.05), requires_grad=True)
    z = torch.randn(4, 2, 8)
    clip_loss(z, z + torch.randn_like(z), log_temperature.exp()).backward()
    assert log_temperature.grad is not None and log_temperature.grad.abs() > 0


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_l2_l1_loss_equals_equation_2(alpha: float) -> None:
    z, x = RNG.normal(size=(4, 3, 6)), RNG.normal(size=(4, 3, 6))
    total = 0.0
    for n in range(4):
        for token in range(3):
            d = z[n, token] - x[n, token]
            total += (1 - alpha) * (d**2).sum() + alpha * np.abs(d).sum()
    assert l2_l1_loss(torch.tensor(z), torch.tensor(x), alpha).item() == pytest.approx(total / (4 * 3) / 6)


def test_stage1_loss_weighs_contrast_by_beta() -> None:
    assert stage1_loss(torch.tensor(8.0), torch.tensor(4.0), beta=0.75).item() == 7.0


def neighbourhood_reference(f: np.ndarray, own: list[int], memory: np.ndarray, prototypes: np.ndarray, tau: float) -> float:
    F = np.concatenate([memory, prototypes])
    total = 0.0
    for i, slot in enumerate(own):
        others = [j for j in range(len(F)) if j != slot]
        p = softmax(np.array([F[j] @ f[i] / tau for j in others]))
        total -= sum(q * math.log(q) for q in p if q > 0)
    return total / len(own)


@pytest.mark.parametrize("tau", [0.5, 0.05])
def test_neighbourhood_clustering_equals_equation_4(tau: float) -> None:
    f, memory, prototypes = unit(RNG.normal(size=(3, 5))), unit(RNG.normal(size=(7, 5))), unit(RNG.normal(size=(4, 5)))
    own = [6, 0, 3]
    got = neighbourhood_clustering_loss(*(torch.tensor(a) for a in (f, own, memory, prototypes)), tau)
    assert got.item() == pytest.approx(neighbourhood_reference(f, own, memory, prototypes, tau))


def test_a_samples_own_slot_does_not_count_and_leaves_gradients_finite() -> None:
    f = torch.nn.functional.normalize(torch.randn(2, 5), dim=1).requires_grad_()
    memory = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    prototypes, own = torch.eye(5)[:3], torch.tensor([1, 4])
    changed = memory.clone()
    changed[1] = -changed[1]
    loss = neighbourhood_clustering_loss(f, own, memory, prototypes, 0.5)
    per_first = neighbourhood_clustering_loss(f[:1], own[:1], memory, prototypes, 0.5)
    assert per_first.item() == pytest.approx(neighbourhood_clustering_loss(f[:1], own[:1], changed, prototypes, 0.5).item())
    loss.backward()
    assert f.grad is not None and torch.isfinite(f.grad).all() and f.grad.abs().sum() > 0


@pytest.mark.parametrize(("logits", "sign"), [([20.0, 0, 0, 0], "low"), ([0.0, 0, 0, 0], "high"), ([1.35, 1.35, -9, -9], "margin")])
def test_entropy_separation_equals_equation_5(logits: list[float], sign: str) -> None:
    p = softmax(logits)
    distance = abs(-(p * np.log(p)).sum() - math.log(4) / 2)
    expected = 0.0 if sign == "margin" else -distance
    assert entropy_separation_loss(torch.tensor([logits]), margin=0.5).item() == pytest.approx(expected, abs=1e-6)
    assert (distance <= 0.5) == (sign == "margin"), "the example tests what its name says"


def test_entropy_separation_drives_entropy_away_from_the_threshold() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]], requires_grad=True)  # entropy below log(4)/2 by more than the margin
    entropy_separation_loss(logits, margin=0.05).backward()
    assert logits.grad is not None and logits.grad[0, 0] < 0, "descent makes a certain sample more certain"


def test_stage2_loss_equals_equation_6() -> None:
    assert stage2_loss(torch.tensor(2.0), torch.tensor(4.0), 0.95).item() == pytest.approx(0.95 * 2 + 0.05 * 4)
