"""Equations 4 and 5, the memory bank, and the reading of the method's original code, against NumPy written from the formulas."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from boldscribe.config.training_settings import Stage2Settings
from boldscribe.losses import entropy_separation_loss, neighbourhood_clustering_loss, neighbourhood_probabilities
from boldscribe.training.adaptation import MemoryBank, Target, adaptation_losses

RNG = np.random.default_rng(0)
Array = NDArray[np.float64]


def unit(a: Array) -> Array:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def features(*shape: int) -> Array:
    return unit(RNG.normal(size=shape))


def equation_4(f: Array, own: list[int], memory: Array, prototypes: Array, tau: float, live: bool) -> float:
    """By loops: the entropy over all j != i, where those of the batch are as they are now (live), or as the bank remembers them."""
    total = 0.0
    for i, slot in enumerate(own):
        others = [memory[j] for j in range(len(memory)) if j != slot and not (live and j in own)]
        others += [f[k] for k in range(len(f)) if live and k != i]
        p = softmax([other @ f[i] / tau for other in [*others, *prototypes]])
        total -= sum(q * math.log(q) for q in p if q > 0)
    return total / len(own)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("tau", [0.5, 0.05])
def test_neighbourhood_clustering_equals_equation_4(tau: float, live: bool) -> None:
    f, memory, prototypes, own = features(3, 5), features(7, 5), features(4, 5), [6, 0, 3]
    given = [torch.tensor(a) for a in (f, own, memory, prototypes)]
    got = neighbourhood_clustering_loss(neighbourhood_probabilities(*given, tau, live=live))
    assert got.item() == pytest.approx(equation_4(f, own, memory, prototypes, tau, live), rel=1e-12)


def dance_losses(f: Array, own: list[int], memory: Array, prototypes: Array, *, T: float, thr: float, margin: float) -> tuple[float, float]:
    """What Saito et al.'s code computes: class logits beside similarities with bank and batch, what does not count at -1/T."""
    to_memory = f @ memory.T / T
    to_memory[:, own] = -1 / T
    to_batch = f @ f.T / T
    to_batch[np.eye(len(f), dtype=bool)] = -1 / T
    logits = f @ prototypes.T / T

    def entropies(z: Array) -> Array:
        p = softmax(z, axis=1)
        return -(p * np.log(p + 1e-5)).sum(1)

    clustering = entropies(np.concatenate([logits, to_memory, to_batch], axis=1)).mean()
    return float(clustering), float(-np.maximum(np.abs(entropies(logits) - thr), margin).mean())


def test_the_dance_preset_computes_what_the_original_code_does() -> None:
    f, memory, prototypes, own = features(6, 5), features(11, 5), features(8, 5), [4, 0, 10, 7, 2, 9]
    settings = Stage2Settings(preset="dance", es_margin=0.4)
    bank = MemoryBank(torch.tensor(memory))
    target = torch.tensor(f)
    got = adaptation_losses(settings, Target(target, target, torch.tensor(own)), bank, torch.tensor(prototypes))
    expected = dance_losses(f, own, memory, prototypes, T=0.05, thr=math.log(8) / 2, margin=0.4)
    assert (got["neighbourhood"].item(), got["entropy"].item()) == pytest.approx(expected, rel=1e-12)
    distance = np.abs(-(p := softmax(f @ prototypes.T / 0.05, axis=1) + 1e-300) @ np.log(p).T).diagonal() - math.log(8) / 2
    assert (np.abs(distance) > 0.4).any() and (np.abs(distance) < 0.4).any(), "samples on both sides of the margin"


def test_a_finite_stand_in_for_what_does_not_count_is_harmless_at_005_and_not_at_05() -> None:
    """Why the `paper` preset masks with minus infinity (docs/method.md)."""
    given = [torch.tensor(a) for a in (features(3, 5), [6, 0, 3], features(7, 5), features(4, 5))]
    for tau, largest in ((0.05, 1e-6), (0.5, 1.0)):
        exact, stand_in = (neighbourhood_probabilities(*given, tau, masked_logit=m).exp() for m in (-math.inf, -1 / tau))
        lost = stand_in[exact == 0].view(3, -1).sum(1).max().item()
        assert lost < largest and (lost > 1e-3) == (tau == 0.5)


def test_adaptation_can_be_left_out_in_part() -> None:
    f = torch.tensor(features(4, 5))
    bank, prototypes = MemoryBank(torch.tensor(features(6, 5))), torch.tensor(features(3, 5))
    target = Target(f, f, torch.tensor([0, 1, 2, 3]))
    for adaptation, acting in (("none", set()), ("nc", {"neighbourhood"}), ("es", {"entropy"}), ("both", {"neighbourhood", "entropy"})):
        losses = adaptation_losses(Stage2Settings(adaptation=adaptation, es_margin=0.01), target, bank, prototypes)
        assert {name for name, value in losses.items() if value != 0} == acting


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    f, own = torch.tensor(features(6, 5)), torch.tensor([4, 0, 5, 7, 2, 3])
    bank, prototypes, settings = MemoryBank(torch.tensor(features(9, 5))), torch.tensor(features(3, 5)), Stage2Settings(es_margin=0.01)
    whole = adaptation_losses(settings, Target(f, f, own), bank, prototypes)
    parts = [adaptation_losses(settings, Target(f[i : i + 3], f, own, i), bank, prototypes) for i in (0, 3)]
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value)


def test_the_bank_is_overwritten_at_the_samples_own_slots() -> None:
    first, new, own, momentum = RNG.normal(size=(6, 4)), features(3, 4), [4, 0, 2], 0.25
    bank = MemoryBank(torch.tensor(first), momentum)
    bank.update(torch.tensor(own), torch.tensor(new, requires_grad=True))
    expected = unit(first)
    for row, slot in zip(new, own, strict=True):
        mixed = momentum * expected[slot] + (1 - momentum) * row
        expected[slot] = mixed / math.sqrt((mixed**2).sum())
    np.testing.assert_allclose(bank.features_ND.numpy(), expected, rtol=1e-12)
    assert not bank.features_ND.requires_grad


@pytest.mark.parametrize(("logits", "side"), [([20.0, 0, 0, 0], "low"), ([0.0, 0, 0, 0], "high"), ([1.35, 1.35, -9, -9], "margin")])
def test_entropy_separation_equals_equation_5(logits: list[float], side: str) -> None:
    p = softmax(logits)
    distance = abs(-(p * np.log(p)).sum() - math.log(4) / 2)
    expected = 0.0 if side == "margin" else -distance
    assert entropy_separation_loss(torch.tensor([logits]), margin=0.5).item() == pytest.approx(expected, abs=1e-6)
    assert (distance <= 0.5) == (side == "margin"), "the example tests what its name says"


def test_entropy_separation_drives_entropy_away_from_the_threshold() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]], requires_grad=True)  # entropy below log(4)/2 by more than the margin
    entropy_separation_loss(logits, margin=0.05).backward()
    assert logits.grad is not None and logits.grad[0, 0] < 0, "descent makes a certain sample more certain"


@pytest.mark.parametrize("preset", ["paper", "dance"])
def test_gradients_equal_difference_quotients(preset: str) -> None:
    settings = Stage2Settings(preset=preset, nc_temperature=0.5, es_margin=0.01)
    bank, own = MemoryBank(torch.tensor(features(7, 5))), torch.tensor([6, 0, 3])

    def loss(f_BD: Tensor, prototypes_CD: Tensor) -> Tensor:
        f_BD, prototypes_CD = (torch.nn.functional.normalize(a, dim=1) for a in (f_BD, prototypes_CD))
        return sum(adaptation_losses(settings, Target(f_BD, f_BD, own), bank, prototypes_CD).values(), start=torch.zeros(()))

    free = [torch.tensor(RNG.normal(size=(n, 5)), requires_grad=True) for n in (3, 4)]
    assert torch.autograd.gradcheck(loss, free)
