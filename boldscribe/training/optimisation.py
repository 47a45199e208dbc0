"""Optimiser steps of pretraining, Stage I and Stage II, which resume bit-identically at any step.

All randomness in a step follows from the step's number, which also determines the position in the data. A checkpoint therefore holds
parameters, optimiser, best weights, the memory bank and the curve. The generator states of Python, NumPy and torch (CPU and GPUs) need
not be saved: a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import seed_everything
from boldscribe.training.checkpoints import Checkpoints, pack, unpack
from boldscribe.training.distributed import average, average_gradients, barrier, largest, rank
from boldscribe.training.learning_rate import adamw, set_learning_rate

ASKED = (None, signal.SIGURG, signal.SIGTERM)  # by urgency: the process with the most urgent signal decides for all
CHECKPOINT_SHARE = 0.02  # of the time may be spent on checkpoints: their interval follows from how long one takes


class Optimisation:
    """AdamW over the steps of a training run.

    Args:
        seed: of the experiment.
        purpose: stage and data set, for which the steps' seeds are derived.
        parameters: trained parameters by name.
        rate: maps a step to its learning rate.
        steps: number of steps.
        weight_decay: of matrices.
        grad_clip: maximum norm of the gradient; None for no limit.
        checkpoints: storage of states.

    Attributes:
        curve: rows of the learning curve so far.
        kept: further tensors in checkpoints, such as the best weights or the memory bank; the training run updates them.
    """

    def __init__(
        self,
        *,
        seed: int,
        purpose: Sequence[str],
        parameters: Mapping[str, Tensor],
        rate: Callable[[int], float],
        steps: int,
        weight_decay: float,
        grad_clip: float | None,
        checkpoints: Checkpoints,
    ) -> None:
        self.seed, self.purpose, self.parameters = seed, purpose, dict(parameters)
        self.rate, self.steps, self.grad_clip, self.checkpoints = rate, steps, grad_clip, checkpoints
        self.optimiser = adamw(self.parameters.values(), weight_decay)
        self.curve: list[dict[str, Any]] = []
        self.kept: dict[str, Tensor] = {}
        self._unwritten: list[dict[str, float]] = []
        self._pending: list[tuple[list[str], Tensor]] = []
        self.done = 0
        self.stopped = False

    def resume(self) -> None:
        """Resume from the newest checkpoint, if there is one; call this once everything is on its training device."""
        if (found := self.checkpoints.latest()) is None:
            return
        self.done, tensors, state = found
        unpack(tensors, self.parameters, self.optimiser)
        device = next(iter(self.parameters.values())).device
        self.kept = {k.removeprefix("kept/"): v.to(device) for k, v in tensors.items() if k.startswith("kept/")}
        self.curve, self._unwritten, self.stopped = state["curve"], state["unwritten"], state["stopped"]

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the remaining steps; set learning rate and seeds before each, and save the state after it if due.

        Raises:
            Preempted: a signal asked the training run to exit early; its state after the last finished step is saved.
        """
        with preemption.deferring_signals():
            yield from self._steps()

    def _steps(self) -> Iterator[int]:
        start, saved, pause = self.done, time.monotonic(), 0.0
        progress = tqdm(
            range(start, self.steps),
            self.purpose[0],
            initial=start,
            total=self.steps,
            mininterval=5,
            disable=rank() > 0,
            file=preemption.Tolerant(sys.stderr),
        )
        for step in progress:
            if self.stopped:
                break
            self._leave_if_asked(start)
            seed_everything(self.seed, *self.purpose, step, *([rank()] if rank() else []))
            set_learning_rate(self.optimiser, self.rate(step))
            yield step
            if rank() == 0 and (now := time.monotonic()) - saved >= pause:
                self.save()
                saved = time.monotonic()
                pause = (saved - now) / CHECKPOINT_SHARE
        self._leave_if_asked(start, at_the_end=True)

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Take one optimiser step along the accumulated gradients.

        Args:
            values: losses of the step, for the curve. They stay on their device until they are read, so that a GPU need not wait.
        """
        average_gradients(self.parameters.values())
        if self.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.done += 1
        self._pending.append((list(values), average(torch.stack([v.detach().float() for v in values.values()]))))

    def means(self) -> dict[str, float]:
        """Mean of each loss over the steps since the last call."""
        self._read()
        rows, self._unwritten = self._unwritten, []
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}

    def save(self) -> None:
        """Write a checkpoint of the state after the last finished step."""
        self._read()
        kept = {f"kept/{name}": tensor for name, tensor in self.kept.items()}
        state = {"curve": self.curve, "unwritten": self._unwritten, "stopped": self.stopped}
        self.checkpoints.save(self.done, pack(self.parameters, self.optimiser) | kept, state)

    def write_curve(self, path: Path) -> None:
        """Write the learning curve as a table (.parquet)."""
        with atomic(path) as part:
            pd.DataFrame(self.curve).to_parquet(part, index=False)

    def _leave_if_asked(self, start: int, at_the_end: bool = False) -> None:
        """Save and exit early if any process was asked to; after the last step, only if there is no time to write the outputs."""
        number = ASKED[largest(ASKED.index(preemption.pending_signal()))]
        if number is None or (at_the_end and number is signal.SIGURG):
            return
        if rank() == 0 and self.done > start:
            self.save()
        barrier()
        preemption.exit_early(number, gained=self.done > start)

    def _read(self) -> None:
        self._unwritten += [dict(zip(names, values.tolist(), strict=True)) for names, values in self._pending]
        self._pending = []
