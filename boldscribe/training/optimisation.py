"""What pretraining, Stage I and Stage II share: optimiser steps that can be taken up again at any of them, bit by bit.

Everything random in a step follows from the step's number, which also says where in the data it stands. So a checkpoint holds
parameters, optimiser, best weights, the memory bank and the curve; the states of Python's, NumPy's and torch's generators, on the
CPU and on GPUs, need not be kept, and a resumed run draws what an uninterrupted one would.
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

from boldscribe.cluster import leaving
from boldscribe.files import atomic
from boldscribe.reproducible import seed_everything
from boldscribe.training.checkpoints import Checkpoints, pack, unpack
from boldscribe.training.distributed import average, average_gradients, barrier, largest, rank
from boldscribe.training.schedule import adamw, set_learning_rate

ASKED = (None, signal.SIGURG, signal.SIGTERM)  # a process that was asked for more decides for all
CHECKPOINT_SHARE = 0.02  # of the time may be spent on checkpoints: how often they come follows from how long they take


class Optimisation:
    """AdamW over the steps of a training.

    Args:
        seed: the experiment's.
        purpose: stage and data set: what the steps' seeds are derived for.
        parameters: what is trained, by name.
        rate: learning rate of a step.
        steps: how many there are.
        weight_decay: of matrices.
        grad_clip: largest norm of the gradient; None for no limit.
        checkpoints: where states are kept.

    Attributes:
        curve: rows of the learning curve so far.
        kept: further tensors that checkpoints hold, such as the best weights or the memory bank; the training changes them.
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
        """Take up the newest checkpoint, if there is one; call it once everything is where it will be trained."""
        if (found := self.checkpoints.latest()) is None:
            return
        self.done, tensors, state = found
        unpack(tensors, self.parameters, self.optimiser)
        device = next(iter(self.parameters.values())).device
        self.kept = {k.removeprefix("kept/"): v.to(device) for k, v in tensors.items() if k.startswith("kept/")}
        self.curve, self._unwritten, self.stopped = state["curve"], state["unwritten"], state["stopped"]

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps that are left; before each, its learning rate and seeds are set, after it the state is saved if due.

        Raises:
            Left: a signal asked the training to leave; its state is saved as it was after the last finished step.
        """
        with leaving.until_the_step_ends():
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
            file=leaving.Tolerant(sys.stderr),
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
        """One optimiser step along the gradients that have been gathered.

        Args:
            values: losses of the step, for the curve. They stay where they are until they are read, so that a GPU need not wait.
        """
        average_gradients(self.parameters.values())
        if self.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.done += 1
        self._pending.append((list(values), average(torch.stack([v.detach().float() for v in values.values()]))))

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps since this was last asked."""
        self._read()
        rows, self._unwritten = self._unwritten, []
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}

    def save(self) -> None:
        """Write a checkpoint after the last finished step."""
        self._read()
        kept = {f"kept/{name}": tensor for name, tensor in self.kept.items()}
        state = {"curve": self.curve, "unwritten": self._unwritten, "stopped": self.stopped}
        self.checkpoints.save(self.done, pack(self.parameters, self.optimiser) | kept, state)

    def write_curve(self, path: Path) -> None:
        """The learning curve as a table (.parquet)."""
        with atomic(path) as part:
            pd.DataFrame(self.curve).to_parquet(part, index=False)

    def _leave_if_asked(self, start: int, at_the_end: bool = False) -> None:
        """Save and leave if one of the processes was asked to; with all steps done, only where there is no time to write the outputs."""
        number = ASKED[largest(ASKED.index(leaving.asked()))]
        if number is None or (at_the_end and number is signal.SIGURG):
            return
        if rank() == 0 and self.done > start:
            self.save()
        barrier()
        leaving.leave(number, gained=self.done > start)

    def _read(self) -> None:
        self._unwritten += [dict(zip(names, values.tolist(), strict=True)) for names, values in self._pending]
        self._pending = []
