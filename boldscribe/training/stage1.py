"""Stage I: cross-modal alignment of fMRI tokens with the video tokens of the same clip (paper 3.2, equations 1 and 2).

The video tokens x come from the frozen Q-Former, without adaptors. If the target moved with its predictor, both could collapse; and
the LLM's projection, from which Stage II starts, expects the frozen Q-Former's space. The adaptors in the shared Q-Former act only on
the fMRI path. x is therefore computed once per clip, before the first step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from boldscribe.config import Config
from boldscribe.data.batches import Batches
from boldscribe.data.windows import Windows
from boldscribe.losses import clip_loss, cosine_similarity, l2_l1_loss, stage1_loss
from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.files import write_json
from boldscribe.machinery.reproducible import generator, seed_everything
from boldscribe.models.adaptor import count_parameters
from boldscribe.models.device import autocast
from boldscribe.models.fmri_encoder import encode_in_batches, new_encoder, save_encoder
from boldscribe.stimuli.features import video_tokens
from boldscribe.training.checkpoints import Checkpoints, trainable
from boldscribe.training.distributed import check_divisible, gather, gather_rows, process_group, rank, share, spread, whole_batch
from boldscribe.training.learning_rate import warmup_cosine
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.source import source_trials

WARMUP = 0.1  # share of the steps


def train_stage1(
    config: Config,
    dataset: str,
    encoder: str = "model",
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    labels: Sequence[Path],
    features: Sequence[Path],
    sc_mbm: Path,
    output_dir: Path,
    work_dir: Path,
) -> None:
    """Train tokenizer, adaptors and projection on the source subjects; write the encoder of the best epoch.

    Args:
        dataset: label.
        encoder: `model`; `noise`, the same on noise instead of BOLD; `untrained`, the encoder before Stage I.
        series, trials, labels: of the source subjects; for `noise`, those of their noise.
        features: frozen video features of their clips (`train` shards).
        sc_mbm: pretrained weights.
        output_dir: `fmri_encoder.safetensors`, `adaptors/`, `curve.parquet`, `parameters.json`.
        work_dir: for checkpoints.

    Raises:
        UserError: the input includes data of a target subject, a trial has no label, a clip has no features, or the processes cannot
            share a batch equally.
        Preempted: a signal asked the training run to exit early; the next call resumes from its checkpoint.
    """
    if encoder == "untrained":
        seed_everything(config.seed, "stage1", dataset)
        _write_encoder(new_encoder(config, sc_mbm), output_dir)
        return
    check_divisible(config.stage1.batch_size, "stage1.batch_size", config.stage1.accumulate)
    table = source_trials(config, dataset, trials, labels)
    windows = Windows(series, table, config.tokenizer.grid)
    files = [*series, *trials, *labels, *features, sc_mbm, Path(config.video_llama.connectors)]
    checkpoints = Checkpoints("stage1", work_dir, config.model_dump(mode="json"), files)
    with preemption.handling_signals(), process_group() as device:
        x_NLD = video_tokens(config, features, table["stim_file"].tolist(), device)
        seed_everything(config.seed, "stage1", dataset)
        training = Stage1(config, dataset, windows, x_NLD, new_encoder(config, sc_mbm), table["stim_file"], checkpoints, device)
        training.run()
    if rank() > 0:
        return
    _write_encoder(training.model, output_dir)
    training.steps.write_curve(output_dir / "curve.parquet")
    checkpoints.remove()


def _write_encoder(encoder: PeftModel, folder: Path) -> None:
    save_encoder(encoder, folder)
    write_json(folder / "parameters.json", count_parameters(encoder))


def split_clips(clips: pd.Series, share: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into held-out and training rows: all trials of a share of the clips are held out, so none of these is trained on."""
    order = rng.permutation(clips.unique())
    held_out = clips.isin(order[: max(2, round(share * len(order)))]).to_numpy()
    return np.flatnonzero(held_out), np.flatnonzero(~held_out)


class Stage1:
    """A Stage I training run: an epoch is one pass over the training trials, in full batches."""

    def __init__(
        self,
        config: Config,
        dataset: str,
        windows: Windows,
        x_NLD: Tensor,
        model: PeftModel,
        clips: pd.Series,
        checkpoints: Checkpoints,
        device: torch.device,
    ) -> None:
        s = config.stage1
        self.config, self.dataset, self.device = config, dataset, device
        self.model, self.x_NLD = model.to(device), x_NLD.to(device)
        self.encode: nn.Module = torch.compile(self.model) if config.training.compile else self.model  # type: ignore[assignment]
        self.batches = Batches(windows, device)
        self.log_temperature = nn.Parameter(torch.tensor(s.temperature, device=device).log(), requires_grad=s.learn_temperature)
        self.held_out, self.training = split_clips(clips, s.holdout, generator(config.seed, "stage1", dataset, "holdout"))
        self.size = whole_batch(s.batch_size, len(self.training), f"training trials of {dataset}", s.accumulate)
        self.steps_per_epoch = len(self.training) // self.size
        total = s.epochs * self.steps_per_epoch
        self.steps = Optimisation(
            seed=config.seed,
            purpose=("stage1", dataset),
            parameters=trainable(self.model) | ({"log_temperature": self.log_temperature} if s.learn_temperature else {}),
            rate=lambda step: warmup_cosine(step, total=total, warmup=max(1, round(WARMUP * total)), peak=s.learning_rate),
            steps=total,
            weight_decay=s.weight_decay,
            grad_clip=s.grad_clip,
            checkpoints=checkpoints,
        )
        logging.getLogger(__name__).info("parameters: %s", count_parameters(self.model))

    def run(self) -> None:
        """Train until results on held-out source trials stop improving, and keep the best epoch's weights."""
        self.steps.resume()
        for step in self.steps:
            self.model.train()
            self.steps.update(self.gradients(self.parts(step), self.parts(step + 1)))
            if (step + 1) % self.steps_per_epoch == 0:
                self._end_epoch(step)
        with torch.no_grad():
            for name, value in self.steps.kept.items():
                self.steps.parameters[name].copy_(value)

    def parts(self, step: int) -> list[Tensor]:
        """This process's trials of a step, in parts for gradient accumulation; the contrast is among the trials of a part."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = generator(self.config.seed, "stage1", self.dataset, "order", epoch).permutation(self.training)
        rows = torch.from_numpy(order[position * self.size : (position + 1) * self.size])
        return [share(part) for part in rows.chunk(self.config.stage1.accumulate)]

    def gradients(self, parts: list[Tensor], next_parts: list[Tensor]) -> dict[str, Tensor]:
        """Compute the gradients of a step and return its losses."""
        sums: dict[str, Tensor] = {}
        for part, following in zip(parts, [*parts[1:], next_parts[0]], strict=True):
            self.batches.expect(part)
            self.batches.expect(following)
            losses = self._losses(part)
            (losses["loss"] / len(parts)).backward()
            sums = {name: sums.get(name, 0) + value.detach() / len(parts) for name, value in losses.items()}
        return sums

    def _losses(self, rows: Tensor) -> dict[str, Tensor]:
        s = self.config.stage1
        bold = self.batches.load(rows)
        if s.noise:
            bold = bold + s.noise * torch.randn_like(bold) * (bold != 0)
        with autocast(self.device, self.config.training.precision):
            z_BLD = self.encode(bold)
        z_BLD, x_BLD = z_BLD.float(), self.x_NLD[rows.to(self.device)]
        # Every process computes the contrast among all trials of the batch, and the reconstruction of its own trials.
        clip = clip_loss(gather(z_BLD), gather(x_BLD), self.log_temperature.exp())
        reconstruction = l2_l1_loss(z_BLD, x_BLD, s.alpha)
        return {"loss": stage1_loss(clip, reconstruction, s.beta), "clip": clip, "reconstruction": reconstruction}

    def _end_epoch(self, step: int) -> None:
        """Add a row to the curve, keep the weights if they are the best so far, and stop after `patience` epochs without improvement."""
        curve = self.steps.curve
        means = self.steps.means()
        row = {
            "epoch": (step + 1) // self.steps_per_epoch,
            **means,
            **self._judge(),
            "temperature": self.log_temperature.exp().item(),
            "learning_rate": self.steps.rate(step),
        }
        if not curve or quality(row) > max(map(quality, curve)):
            self.steps.kept = {name: p.detach().clone() for name, p in self.steps.parameters.items()}
        curve.append(row)
        best = max(range(len(curve)), key=lambda i: quality(curve[i]))
        self.steps.stopped = len(curve) - 1 - best >= self.config.stage1.patience

    def _judge(self) -> dict[str, float]:
        """Evaluate held-out source trials: reconstruction, and mean share of other held-out clips that the right one beats."""
        self.model.eval()
        own = torch.from_numpy(self.held_out[list(spread(len(self.held_out)))])
        with autocast(self.device, self.config.training.precision):
            z_NLD = encode_in_batches(self.model, lambda rows: self.batches.load(own[list(rows)]), len(own), 64)
        z_NLD = gather_rows(z_NLD.float(), len(self.held_out))
        x_NLD = self.x_NLD[torch.from_numpy(self.held_out).to(self.device)]
        return {
            "held_out_reconstruction": l2_l1_loss(z_NLD, x_NLD, self.config.stage1.alpha).item(),
            "held_out_rank": retrieval_rank(z_NLD, x_NLD),
        }


def quality(row: Mapping[str, float]) -> tuple[float, float]:
    """Sort key of epochs: retrieval, then reconstruction if that saturates, since the LLM's projection reads x itself."""
    return row["held_out_rank"], -row["held_out_reconstruction"]


def retrieval_rank(z_NLD: Tensor, x_NLD: Tensor) -> float:
    """Mean share of the other clips that are less similar to a trial's fMRI embedding than its own clip; 0.5 is chance."""
    similarity = cosine_similarity(z_NLD, x_NLD)
    own = similarity.diagonal()[:, None]
    beaten = (similarity < own).float() + 0.5 * (similarity == own).float()
    n = len(similarity)
    return float((beaten.sum(1).sub(0.5) / (n - 1)).mean())
