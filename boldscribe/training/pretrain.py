"""Pretraining of SC-MBM as a masked autoencoder on the source subjects' BOLD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import trange

from boldscribe.bold.windows import Windows
from boldscribe.config import Config
from boldscribe.files import atomic, load_array
from boldscribe.models.device import best_device
from boldscribe.models.sc_mbm import MaskedAutoencoder
from boldscribe.reproducible import generator, seed_everything
from boldscribe.training.checkpoints import Checkpoints, pack, trainable, unpack
from boldscribe.training.schedule import adamw, set_learning_rate, warmup_cosine
from boldscribe.training.source import check_source_only


def pretrain_sc_mbm(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    weights: Path,
    curve: Path,
    work_dir: Path,
) -> None:
    """Train the masked autoencoder on windows from all over the source subjects' runs, trials or not.

    Args:
        series, trials: of the source subjects (docs/data.md).
        weights: the tokenizer's and the blocks' weights, prefixed `tokenizer.` and `sc_mbm.`.
        curve: CSV with `epoch, loss, learning_rate`.
        work_dir: for checkpoints.

    Raises:
        UserError: a trial of a target subject among the input.
    """
    s = config.sc_mbm
    index = pd.concat([pd.read_parquet(p) for p in trials])
    check_source_only(config, dataset, index)
    windows = Windows(series, all_windows(series, config.bold.n_volumes), config.tokenizer.grid)
    device = best_device()
    seed_everything(config.seed, "sc_mbm", dataset)
    model = MaskedAutoencoder(s, config.tokenizer, config.bold.n_volumes, windows.mask_XYZ).to(device)
    parameters = trainable(model)
    optimiser = adamw(parameters.values(), s.weight_decay)
    settings = {
        "sc_mbm": s.model_dump(),
        "tokenizer": config.tokenizer.model_dump(),
        "n_volumes": config.bold.n_volumes,
        "seed": config.seed,
    }
    checkpoints = Checkpoints("pretrain_sc_mbm", work_dir, settings, series)
    rows: list[dict[str, float]] = []
    start = 0
    if (found := checkpoints.latest()) is not None:
        start, tensors, rows = found
        unpack(tensors, parameters, optimiser)
    n_batches = max(1, len(windows) // s.batch_size)
    for epoch in trange(start, s.epochs, desc="SC-MBM", initial=start, total=s.epochs, mininterval=5):
        seed_everything(config.seed, "sc_mbm", dataset, epoch)
        order = generator(config.seed, "sc_mbm", dataset, "order", epoch).permutation(len(windows))
        losses = []
        for i, batch in enumerate(np.array_split(order, n_batches)):
            step, total = epoch * n_batches + i, s.epochs * n_batches
            rate = warmup_cosine(step, total=total, warmup=s.warmup_epochs * n_batches, peak=s.learning_rate)
            set_learning_rate(optimiser, rate)
            loss = model(windows.load(batch.tolist()).to(device))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), 0.8)
            optimiser.step()
            losses.append(loss.item())
        rows.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "learning_rate": rate})
        checkpoints.save(epoch + 1, pack(parameters, optimiser), rows)
    encoder = {f"sc_mbm.{k}": v for k, v in model.encoder.state_dict().items()}
    tokenizer = {f"tokenizer.{k}": v for k, v in model.tokenizer.state_dict().items()}
    with atomic(weights) as part:
        save_file({k: v.cpu().contiguous() for k, v in (encoder | tokenizer).items()}, part)
    with atomic(curve) as part:
        pd.DataFrame(rows).to_csv(part, index=False, float_format="%.6g")
    checkpoints.remove()


def all_windows(series: Sequence[Path], n_volumes: int) -> pd.DataFrame:
    """Windows of T volumes side by side through every run: pretraining needs no trials."""
    rows = []
    for path in series:
        _, header = load_array(path)
        for run in header["runs"]:
            first = run["first_volume"]
            rows += [
                {"subject": header["subject"], "first_volume": k, "n_volumes": n_volumes}
                for k in range(first, first + run["n_volumes"] - n_volumes + 1, n_volumes)
            ]
    return pd.DataFrame(rows)
