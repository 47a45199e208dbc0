"""Each equation against values worked out by plain loops over the paper's formulas."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from boldscribe.losses import (
    clip_loss,
    l2_l1_loss,
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


def test_clip_loss_is_twice_that_of_open_clip() -> None:
    """open_clip takes unit features and a logit scale, and averages the cross-entropies of both directions; equation 1 adds them."""
    image, text = (torch.nn.functional.normalize(torch.randn(6, 9, dtype=torch.float64), dim=1) for _ in range(2))
    per_image = (1 / 0.05) * image @ text.T
    labels = torch.arange(6)
    theirs = (torch.nn.functional.cross_entropy(per_image, labels) + torch.nn.functional.cross_entropy(per_image.T, labels)) / 2
    assert clip_loss(image[:, None], text[:, None], 0.05).item() == pytest.approx(2 * theirs.item(), rel=1e-12)


@pytest.mark.parametrize("loss", [lambda z, x: clip_loss(z, x, 0.3), lambda z, x: l2_l1_loss(z, x, 0.4)])
def test_gradients_of_stage1s_losses_equal_difference_quotients(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    z, x = (torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(loss, (z, x))


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


def test_stage2_loss_equals_equation_6() -> None:
    assert stage2_loss(torch.tensor(2.0), torch.tensor(4.0), 0.95).item() == pytest.approx(0.95 * 2 + 0.05 * 4)
