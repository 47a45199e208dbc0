"""Decoding: text from prompt and fMRI tokens alone, by the model and by its controls (paper 3.2; design section 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from boldscribe.bold.windows import Windows
from boldscribe.config import Config
from boldscribe.encoding import BATCH, read_fmri_tokens
from boldscribe.errors import UserError
from boldscribe.files import atomic
from boldscribe.models.device import autocast, best_device
from boldscribe.models.fmri_encoder import encode_in_batches, load_encoder
from boldscribe.models.video_llama import load_llm
from boldscribe.models.weight_files import load_weights
from boldscribe.reproducible import derive_seed, generator, seed_everything

FEWEST = {"model": 1, "llm": 1, "shuffled": 2, "noise": 2}  # test trials: one has nothing to be swapped with, and no SD
CONDITIONS = tuple(FEWEST)


def decode(
    config: Config,
    dataset: str,
    subject: str,
    condition: str,
    *,
    series: Path,
    trials: Path,
    tokens: Path,
    stage1_dir: Path,
    stage2_dir: Path,
    models_dir: Path,
    output: Path,
) -> None:
    """Decode a target subject's test trials; writes `subject, trial, instruction, prediction`.

    Args:
        series, trials: of the subject.
        tokens: fMRI tokens of all test trials of the data set.
        stage1_dir, stage2_dir, models_dir: encoder, bridge, LLM.
        output: table (.parquet).

    Conditions: `model`; `llm`, the same question without brain; `shuffled`, each trial given another trial's fMRI; `noise`, windows
    drawn from a Gaussian with the mean and covariance of the subject's test windows.

    Raises:
        UserError: no such condition, or too few test trials.
    """
    if condition not in CONDITIONS:
        raise UserError("condition", f"found {condition!r}, expected one of {', '.join(CONDITIONS)}")
    index = pd.read_parquet(trials)
    test = index[index["role"] == "test"].reset_index(drop=True)
    if len(test) < FEWEST[condition]:
        raise UserError(
            str(trials),
            f"role: found {len(test)} trials with 'test' of sub-{subject}, expected at least {FEWEST[condition]} for {condition!r}; "
            "name test_runs in the configuration",
        )
    seed_everything(config.seed, "decode", dataset, subject, condition)
    llm = load_llm(config, models_dir).to(best_device())
    soft = None
    if condition != "llm":
        noise = condition == "noise"
        z_NLD = _noise_tokens(config, dataset, subject, series, test, stage1_dir) if noise else _test_tokens(tokens, test)
        if condition == "shuffled":
            z_NLD = z_NLD[torch.from_numpy(derangement(len(z_NLD), generator(config.seed, "shuffled", dataset, subject)))]
        with torch.inference_mode():
            soft = load_bridge(stage2_dir)(z_NLD)
    predictions = llm.generate(
        test["instruction"].tolist(), soft, max_new_tokens=config.decoding.max_new_tokens, batch_size=config.decoding.batch_size
    )
    with atomic(output) as part:
        test[["subject", "trial", "instruction"]].assign(prediction=predictions).to_parquet(part, index=False)


def _test_tokens(path: Path, test: pd.DataFrame) -> Tensor:
    """The fMRI tokens of a subject's test trials, in their order: (trials, L, d).

    Raises:
        UserError: a trial without.
    """
    z_NLD, rows = read_fmri_tokens(path, "test")
    position = test[["subject", "trial"]].merge(rows.assign(row=range(len(rows))), on=["subject", "trial"], how="left")["row"]
    if lacking := int(position.isna().sum()):
        raise UserError(str(path), f"found no tokens of {lacking} of {len(test)} test trials; encode again")
    return z_NLD[torch.from_numpy(position.to_numpy(np.int64))]


def _noise_tokens(config: Config, dataset: str, subject: str, series: Path, test: pd.DataFrame, stage1_dir: Path) -> Tensor:
    """What the encoder makes of Gaussian windows with the moments of the subject's test windows: (trials, L, d)."""
    device = best_device()
    bold = Windows([series], test, config.tokenizer.grid).load(range(len(test)))
    bold = matched_noise(bold, derive_seed(config.seed, "noise", dataset, subject))
    with autocast(device, config.training.precision):
        z_NLD = encode_in_batches(load_encoder(config, stage1_dir).to(device), lambda rows: bold[list(rows)].to(device), len(bold), BATCH)
    return z_NLD.float().cpu()


def load_bridge(folder: Path) -> nn.Linear:
    """The bridge of a finished Stage II, frozen."""
    state, _ = load_weights(folder / "bridge.safetensors", "run Stage II again")
    weight, bias = state["bridge.weight"], state["bridge.bias"]
    bridge = nn.Linear(weight.shape[1], weight.shape[0])
    bridge.load_state_dict({"weight": weight, "bias": bias})
    return bridge.eval().requires_grad_(False)


def matched_noise(bold_BTXYZ: Tensor, seed: int) -> Tensor:
    """Gaussian windows with the mean and covariance over trials of all voxels and volumes.

    x̄ + Σ_i w_i (x_i − x̄) / √(n − 1) with w ~ N(0, 1) has the sample covariance of the n trials, which is never formed.
    """
    n = len(bold_BTXYZ)
    weights = torch.randn(n, n, generator=torch.Generator().manual_seed(seed)) / (n - 1) ** 0.5
    mean = bold_BTXYZ.mean(0)
    return mean + torch.tensordot(weights, bold_BTXYZ - mean, dims=1)


def derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random permutation of n ≥ 2 without fixed point: one cycle through all."""
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out
