"""Conditions in which the LLM reads fMRI tokens: the trial's own, another trial's, a mean, or none."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from boldscribe.decoding.donors import Allowed, donors
from boldscribe.decoding.task import Task
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.reproducible import seed_everything
from boldscribe.models.device import best_device
from boldscribe.models.token_files import tokens_of
from boldscribe.models.video_llama import load_llm
from boldscribe.models.weight_files import load_weights

Tokens = NDArray[np.float32]


def own_tokens(task: Task) -> list[str]:
    """Decode each trial from its own tokens."""
    return generate(task, test_tokens(task))


def no_tokens(task: Task) -> list[str]:
    """Ask the same question without fMRI tokens."""
    return generate(task, None)


def mean_token(task: Task) -> list[str]:
    """Decode each trial from the mean of its subject's tokens."""
    z_NLD = test_tokens(task)
    for rows in rows_by_subject(task.test).values():
        z_NLD[rows] = z_NLD[rows].mean(0, keepdims=True)
    return generate(task, z_NLD)


def shuffled(task: Task) -> list[str]:
    """Decode each trial from another trial of its subject.

    Raises:
        UserError: a subject has only one test trial.
    """
    z_NLD = test_tokens(task)
    out = np.empty_like(z_NLD)
    for subject, rows in rows_by_subject(task.test).items():
        if len(rows) < 2:
            raise UserError("test trials", f"found 1 for sub-{subject}, expected at least 2 to swap; set test_runs in the configuration")
        donor, _ = donors([~np.eye(len(rows), dtype=bool)], task.rng(subject))
        out[rows] = z_NLD[rows][donor]
    return generate(task, out)


def shuffled_runs(task: Task) -> list[str]:
    """Decode each trial from a test trial in another run of its subject, or from an adaptation trial if there is only one test run.

    Trials of one run share drifts and, at short intervals, responses to neighbouring trials; trials of different runs share neither.

    Raises:
        UserError: all trials of a subject are in one run.
    """
    z_NLD = test_tokens(task)
    adaptation = task.of_role("adapt")
    others_NLD = tokens_of(task.one("adapt_tokens"), "adapt", adaptation)
    of_adaptation = rows_by_subject(adaptation)
    out = np.empty_like(z_NLD)
    for subject, rows in rows_by_subject(task.test).items():
        trials, given = task.test.iloc[rows], z_NLD[rows]
        run = donor_run = trials["run"].to_numpy()
        if len(set(run)) < 2:
            given, donor_run = others_NLD[of_adaptation[subject]], adaptation.iloc[of_adaptation[subject]]["run"].to_numpy()
        donor, choice = donors([run[:, None] != donor_run[None]], task.rng(subject))
        if (choice < 0).any():
            raise UserError(
                ", ".join(map(str, task.trials)),
                f"run: found trials of sub-{subject} in run {run[0]} only, expected two runs; correct adaptation_runs and test_runs",
            )
        out[rows] = given[donor]
    return generate(task, out)


def wrong_subject(task: Task) -> list[str]:
    """Decode each trial from a test trial of another target subject, who saw another clip.

    Raises:
        UserError: there is only one target subject, or all others saw a trial's clip in all their trials.
    """
    other_subject, other_clip = ~_same(task.seen["subject"]), ~_same(task.seen["stim_file"])
    donor, choice = donors([other_subject & other_clip], task.rng())
    if lacking := int((choice < 0).sum()):
        raise UserError(
            f"condition {task.condition!r}",
            f"found no trial of another target subject with another clip for {lacking} of {len(donor)} test trials, expected at least two "
            "target subjects who saw several clips; remove the control (decoding.controls)",
        )
    return generate(task, test_tokens(task)[donor])


def shuffled_class(task: Task) -> list[str]:
    """Decode each trial from a trial of the same action with another clip: of the same subject, otherwise of another target subject.

    The only trial of a class gets another trial of its subject; the number of such trials is logged.

    Raises:
        UserError: a subject has only one test trial.
    """
    subject, clip, action = (_same(task.seen[name]) for name in ("subject", "stim_file", "action"))
    alike, itself = action & ~clip, np.eye(len(subject), dtype=bool)
    donor, choice = donors([subject & alike, ~subject & alike, subject & ~itself], task.rng())
    if (choice < 0).any():
        raise UserError("test trials", "found 1 for a subject, expected at least 2 to swap; set test_runs in the configuration")
    logging.getLogger(__name__).info(
        "of %d trials, %d get a donor of the same class and subject, %d of the same class in another subject, and %d, alone in their "
        "class, any donor of their subject",
        *(len(donor), *((choice == i).sum() for i in range(3))),
    )
    return generate(task, test_tokens(task)[donor])


def rows_by_subject(trials: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each subject's trials."""
    return {str(subject): np.flatnonzero(trials["subject"] == subject) for subject in trials["subject"].unique()}


def _same(column: pd.Series) -> Allowed:
    """Mark pairs of rows with the same value: (N, N)."""
    values = column.to_numpy()
    return np.equal(values[:, None], values[None]).astype(bool)


def test_tokens(task: Task) -> Tokens:
    """Read the fMRI tokens of the test trials, in their order: (trials, L, d)."""
    return tokens_of(task.one("tokens"), "test", task.test)


def generate(task: Task, z_NLD: Tokens | None) -> list[str]:
    """Generate the LLM's answers to the test trials' instructions, from tokens that the bridge maps, or from none."""
    config = task.config
    seed_everything(config.seed, "decode", task.dataset, task.condition)
    llm = load_llm(config, task.files["models"][0].parent).to(best_device())
    return llm.generate(
        task.test["instruction"].tolist(),
        None if z_NLD is None else torch.from_numpy(z_NLD),
        through=None if z_NLD is None else load_bridge(task.one("stage2")),
        max_new_tokens=config.decoding.max_new_tokens,
        batch_size=config.decoding.batch_size,
    )


def load_bridge(folder: Path) -> nn.Linear:
    """Load the bridge of a finished Stage II, frozen."""
    state, _ = load_weights(folder / "bridge.safetensors", "run Stage II again")
    weight, bias = state["bridge.weight"], state["bridge.bias"]
    bridge = nn.Linear(weight.shape[1], weight.shape[0])
    bridge.load_state_dict({"weight": weight, "bias": bias})
    return bridge.eval().requires_grad_(False)
