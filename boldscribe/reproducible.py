"""Seeds: one in the configuration, one derived from it for each purpose."""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose (stage, data set, subject, ...), independent of those for other purposes."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int, threads: int | None = None) -> int:
    """Seed Python, NumPy and torch for one purpose and ask torch for deterministic algorithms; returns the seed.

    Results on the CPU repeat bit by bit only with the same number of threads, so long computations fix it here.
    """
    import torch

    derived = derive_seed(seed, *purpose)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.manual_seed(derived)
    torch.use_deterministic_algorithms(True)
    if threads is not None:
        torch.set_num_threads(threads)
    return derived
