"""Conditions in which the LLM reads fMRI tokens: the trial's own, another trial's, a mean, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from boldscribe.errors import UserError
from boldscribe.models.device import best_device
from boldscribe.models.video_llama import load_llm
from boldscribe.models.weight_files import load_weights
from boldscribe.reproducible import generator, seed_everything
from boldscribe.token_files import tokens_of

if TYPE_CHECKING:
    from boldscribe.decoding.decode import Task


def own_tokens(task: Task) -> list[str]:
    """Each trial from its own tokens."""
    return generate(task, test_tokens(task))


def no_tokens(task: Task) -> list[str]:
    """The same question, without brain."""
    return generate(task, None)


def mean_token(task: Task) -> list[str]:
    """Each trial from the mean of its subject's tokens."""
    z_NLD = test_tokens(task)
    for rows in rows_by_subject(task).values():
        z_NLD[rows] = z_NLD[rows].mean(0, keepdim=True)
    return generate(task, z_NLD)


def shuffled(task: Task) -> list[str]:
    """Each trial from another trial of its subject."""
    z_NLD = test_tokens(task)
    order = np.arange(len(z_NLD))
    for subject, rows in rows_by_subject(task).items():
        order[rows] = rows[derangement(len(rows), generator(task.config.seed, "shuffled", task.dataset, subject))]
    return generate(task, z_NLD[torch.from_numpy(order)])


def rows_by_subject(task: Task) -> dict[str, NDArray[np.int64]]:
    """Rows of the test trials of each subject."""
    return {str(subject): np.flatnonzero(task.test["subject"] == subject) for subject in task.test["subject"].unique()}


def generate(task: Task, z_NLD: Tensor | None) -> list[str]:
    """The LLM's answers to the test trials' instructions, from tokens that the bridge maps, or from none."""
    config = task.config
    seed_everything(config.seed, "decode", task.dataset, task.condition)
    llm = load_llm(config, task.files["models"][0].parent).to(best_device())
    soft = None
    if z_NLD is not None:
        with torch.inference_mode():
            soft = load_bridge(task.one("stage2"))(z_NLD)
    return llm.generate(
        task.test["instruction"].tolist(), soft, max_new_tokens=config.decoding.max_new_tokens, batch_size=config.decoding.batch_size
    )


def test_tokens(task: Task) -> Tensor:
    """The fMRI tokens of the test trials, in their order: (trials, L, d)."""
    return torch.from_numpy(tokens_of(task.one("tokens"), "test", task.test))


def load_bridge(folder: Path) -> nn.Linear:
    """The bridge of a finished Stage II, frozen."""
    state, _ = load_weights(folder / "bridge.safetensors", "run Stage II again")
    weight, bias = state["bridge.weight"], state["bridge.bias"]
    bridge = nn.Linear(weight.shape[1], weight.shape[0])
    bridge.load_state_dict({"weight": weight, "bias": bias})
    return bridge.eval().requires_grad_(False)


def derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random permutation of n ≥ 2 without fixed point: one cycle through all.

    Raises:
        UserError: fewer than two.
    """
    if n < 2:
        raise UserError(
            "test trials", f"found {n} of a subject, expected at least 2, which can be swapped; name test_runs in the configuration"
        )
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out
