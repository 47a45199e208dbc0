"""Random seeds: one in the configuration, from which one is derived for each purpose."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed for one purpose (stage, data set, subject, ...), independent of those for other purposes."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int, threads: int | None = None) -> int:
    """Seed Python, NumPy and torch (CPU and GPUs) for one purpose, request deterministic algorithms, and return the seed.

    CPU results are bit-identical only with the same number of threads, so long computations fix it here. On a GPU, some operations
    have no deterministic form, such as the sum in nucleus sampling: torch only warns about them there, but refuses on the CPU.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for deterministic matrix products on a GPU

    derived = derive_seed(seed, *purpose)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.manual_seed(derived)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    if threads is not None:
        torch.set_num_threads(threads)
    return derived
