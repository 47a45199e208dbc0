"""Training of one model by several processes, one per GPU: each computes its part of every batch (`torchrun`).

There is no wrapper around the model; communication is explicit where it happens. Embeddings are gathered with their gradient, so that
a contrast sees the negatives of all processes. Gradients are averaged once per optimiser step. In a single process all this is a no-op.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from boldscribe.machinery.errors import UserError
from boldscribe.models.device import best_device

_on_cpu: list[dist.ProcessGroup] = []  # a second group of the processes, for messages that must not wait for a GPU


def rank() -> int:
    """Rank of this process, from 0, as set by torchrun in the environment."""
    return int(os.environ.get("RANK", 0))


def n_processes() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the other processes, if there are any; yield the device of this one."""
    if n_processes() == 1:
        yield best_device()
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=1))
    _on_cpu.append(dist.new_group(backend="gloo", timeout=timedelta(hours=1)))
    logging.getLogger(__name__).info("process %d of %d, on %s", rank() + 1, n_processes(), device)
    try:
        yield device
    finally:
        _on_cpu.clear()
        dist.destroy_process_group()


def share(rows: Tensor) -> Tensor:
    """Return this process's part of a batch, in rank order; the batch size must be divisible by the number of processes."""
    size = len(rows) // n_processes()
    return rows[rank() * size : (rank() + 1) * size]


def check_divisible(size: int, key: str, parts: int = 1) -> None:
    """Refuse a batch that cannot be shared equally.

    Args:
        size: of the batch.
        key: its name in the configuration.
        parts: number of parts that each process computes in turn.

    Raises:
        UserError: names the key.
    """
    if size % (parts * n_processes()):
        raise UserError(key, f"found {size}, expected a multiple of {parts * n_processes()}: {n_processes()} process(es) x {parts} part(s)")


def whole_batch(wanted: int, n: int, what: str, parts: int = 1) -> int:
    """Size of the largest batch, up to `wanted` of n records, that can be shared equally.

    Args:
        what: the records, for the error message.
        parts: as in `check_divisible`.

    Raises:
        UserError: there are too few records for one per part.
    """
    unit = parts * n_processes()
    if n < unit:
        raise UserError(what, f"found {n}, expected at least {unit}: {n_processes()} process(es) x {parts} part(s); use fewer")
    return min(wanted, n) // unit * unit


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(n_processes())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return share(gradient)


def gather(part: Tensor) -> Tensor:
    """Gather the whole batch from every process's part, in rank order.

    Gradients flow back to the part. If every process computes the same loss of the whole batch, they are n times too large, which
    `average_gradients` corrects.
    """
    return part if n_processes() == 1 else cast(Tensor, _Gather.apply(part))


def gather_rows(part: Tensor, n: int) -> Tensor:
    """Gather n rows from parts made by `spread`, without gradient."""
    if n_processes() == 1:
        return part
    longest = -(-n // n_processes())
    padded = torch.cat([part, part.new_zeros(longest - len(part), *part.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(n_processes())]
    dist.all_gather(parts, padded.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)[:n]


def spread(n: int) -> range:
    """Rows out of n that this process takes, for any n."""
    return range(rank(), n, n_processes())


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average gradients over all processes, in place, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if n_processes() == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= n_processes()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def average(values: Tensor) -> Tensor:
    """Average values over processes."""
    if n_processes() > 1:
        dist.all_reduce(values)
        values /= n_processes()
    return values


def total(value: float) -> float:
    """Sum a value over processes."""
    if n_processes() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(summed)
    return summed.item()


def largest(value: int) -> int:
    """Maximum over processes, reduced on their CPUs while GPUs keep computing."""
    if n_processes() == 1:
        return value
    found = torch.tensor(value)
    dist.all_reduce(found, dist.ReduceOp.MAX, _on_cpu[0])
    return int(found.item())


def barrier() -> None:
    """Wait until all processes reach this point."""
    if n_processes() > 1:
        dist.barrier(_on_cpu[0])
