"""Stage I: cross-modal alignment of fMRI tokens with the video tokens of the same clip (paper 3.2, equations 1 and 2).

The video tokens x come from the frozen Q-Former, without adaptors: a target that moves with its predictor lets both shrink to
agreement about nothing, and the LLM's projection, from which Stage II starts, knows the frozen Q-Former's space. The adaptors in
the shared Q-Former act on the fMRI path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from boldscribe.bold.windows import Windows
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic, load_array
from boldscribe.losses import clip_loss, l2_l1_loss, stage1_loss
from boldscribe.models.device import best_device
from boldscribe.models.fmri_encoder import encode_in_batches, new_encoder, save_encoder
from boldscribe.models.video_llama import load_video_q_former
from boldscribe.reproducible import generator, seed_everything
from boldscribe.training.checkpoints import Checkpoints, pack, trainable, unpack
from boldscribe.training.schedule import adamw, set_learning_rate, warmup_cosine
from boldscribe.training.source import source_trials

WARMUP = 0.1  # share of the steps


def train_stage1(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    labels: Sequence[Path],
    features: Sequence[Path],
    sc_mbm: Path,
    output_dir: Path,
    work_dir: Path,
) -> None:
    """Train tokenizer, adaptors and projection on the source subjects; write the encoder of the best epoch and `curve.csv`.

    Args:
        series, trials, labels: of the source subjects.
        features: frozen video features of their clips (`train` shards).
        sc_mbm: pretrained weights.
        output_dir: `fmri_encoder.safetensors`, `adaptors/`, `curve.csv`.
        work_dir: for checkpoints.

    Raises:
        UserError: something of a target subject among the input, a trial without label, or a clip without features.
    """
    table = source_trials(config, dataset, trials, labels)
    windows = Windows(series, table, config.tokenizer.grid)
    x_NLD = video_tokens(config, features, table["stim_file"].tolist())
    seed_everything(config.seed, "stage1", dataset)
    trainer = _Trainer(config, dataset, windows, x_NLD, new_encoder(config, sc_mbm), table["stim_file"])
    settings = {n: getattr(config, n).model_dump() for n in ("stage1", "adaptor", "tokenizer", "sc_mbm")} | {"seed": config.seed}
    files = [*series, *trials, *labels, *features, sc_mbm, Path(config.video_llama.connectors)]
    checkpoints = Checkpoints("stage1", work_dir, settings, files)
    trainer.run(checkpoints)
    save_encoder(trainer.model, output_dir, config.adaptor)
    with atomic(output_dir / "curve.csv") as part:
        pd.DataFrame(trainer.curve).to_csv(part, index=False, float_format="%.6g")
    checkpoints.remove()


def video_tokens(config: Config, features: Sequence[Path], clips: Sequence[str], batch_size: int = 64) -> Tensor:
    """x_NLD of a sequence of clips, from cached features through the frozen video Q-Former; each clip is encoded once.

    Raises:
        UserError: a clip that no shard holds.
    """
    q_former = load_video_q_former(config)
    tokens: dict[str, Tensor] = {}
    wanted = set(clips)
    for path in features:
        array, header = load_array(path)
        rows = [i for i, clip in enumerate(header["clips"]) if clip in wanted]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            with torch.no_grad():
                x_BLD = q_former(torch.from_numpy(array[batch]).float())
            tokens.update({header["clips"][i]: x for i, x in zip(batch, x_BLD, strict=True)})
    if absent := sorted(wanted - tokens.keys()):
        raise UserError(
            ", ".join(map(str, features)), f"found no features of {len(absent)} clip(s) ({', '.join(absent[:3])}); encode again"
        )
    return torch.stack([tokens[clip] for clip in clips])


def _split(clips: pd.Series, share: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows held out and rows to train on: all trials of a share of the clips, so that no held-out clip is trained on."""
    order = rng.permutation(clips.unique())
    held_out = clips.isin(order[: max(2, round(share * len(order)))]).to_numpy()
    return np.flatnonzero(held_out), np.flatnonzero(~held_out)


class _Trainer:
    """The state of a Stage I training."""

    def __init__(self, config: Config, dataset: str, windows: Windows, x_NLD: Tensor, model: PeftModel, clips: pd.Series) -> None:
        self.config, self.dataset, self.windows = config, dataset, windows
        self.device = best_device()
        self.model, self.x_NLD = model.to(self.device), x_NLD.to(self.device)
        self.log_temperature = nn.Parameter(
            torch.tensor(config.stage1.temperature, device=self.device).log(), requires_grad=config.stage1.learn_temperature
        )
        self.held_out, self.training = _split(clips, config.stage1.holdout, generator(config.seed, "stage1", dataset, "holdout"))
        self.parameters = trainable(self.model) | ({"log_temperature": self.log_temperature} if config.stage1.learn_temperature else {})
        self.optimiser = adamw(self.parameters.values(), config.stage1.weight_decay)
        self.best: dict[str, Tensor] = {}
        self.curve: list[dict[str, float]] = []

    def run(self, checkpoints: Checkpoints) -> None:
        """Train until it no longer gets better on held-out source trials, and keep the best epoch's weights."""
        start = self._resume(checkpoints)
        progress = tqdm(range(start, self.config.stage1.epochs), "Stage I", initial=start, total=self.config.stage1.epochs, mininterval=5)
        for epoch in progress:
            if self._patience_is_over():
                break
            row = {"epoch": epoch + 1, **self._epoch(epoch), **self._judge()}
            if not self.curve or _quality(row) > max(map(_quality, self.curve)):
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
            self.curve.append(row)
            progress.set_postfix(loss=f"{row['loss']:.3f}", held_out_rank=f"{row['held_out_rank']:.3f}")
            checkpoints.save(epoch + 1, pack(self.parameters, self.optimiser) | {f"best/{k}": v for k, v in self.best.items()}, self.curve)
        with torch.no_grad():
            for name, value in self.best.items():
                self.parameters[name].copy_(value)

    def _resume(self, checkpoints: Checkpoints) -> int:
        if (found := checkpoints.latest()) is None:
            return 0
        epoch, tensors, self.curve = found
        unpack(tensors, self.parameters, self.optimiser)
        self.best = {k.removeprefix("best/"): v.to(self.device) for k, v in tensors.items() if k.startswith("best/")}
        return epoch

    def _patience_is_over(self) -> bool:
        best = max(range(len(self.curve)), key=lambda i: _quality(self.curve[i]), default=0)
        return len(self.curve) - 1 - best >= self.config.stage1.patience

    def _epoch(self, epoch: int) -> dict[str, float]:
        s = self.config.stage1
        seed_everything(self.config.seed, "stage1", self.dataset, epoch)
        order = generator(self.config.seed, "stage1", self.dataset, "order", epoch).permutation(self.training)
        batches = np.array_split(order, max(1, len(order) // s.batch_size))
        self.model.train()
        sums: dict[str, float] = {}
        for i, batch in enumerate(batches):
            step, total = epoch * len(batches) + i, s.epochs * len(batches)
            rate = warmup_cosine(step, total=total, warmup=max(1, round(WARMUP * total)), peak=s.learning_rate)
            set_learning_rate(self.optimiser, rate)
            values = self._step(batch)
            sums = {k: sums.get(k, 0.0) + v / len(batches) for k, v in values.items()}
        return {**sums, "temperature": self.log_temperature.exp().item(), "learning_rate": rate}

    def _step(self, batch: NDArray[np.int64]) -> dict[str, float]:
        s = self.config.stage1
        bold = self.windows.load(batch.tolist()).to(self.device)
        if s.noise:
            bold = bold + s.noise * torch.randn_like(bold) * (bold != 0)
        z_BLD, x_BLD = self.model(bold), self.x_NLD[torch.from_numpy(batch)]
        clip, reconstruction = clip_loss(z_BLD, x_BLD, self.log_temperature.exp()), l2_l1_loss(z_BLD, x_BLD, s.alpha)
        loss = stage1_loss(clip, reconstruction, s.beta)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(list(self.parameters.values()), s.grad_clip)
        self.optimiser.step()
        return {"loss": loss.item(), "clip": clip.item(), "reconstruction": reconstruction.item()}

    def _judge(self) -> dict[str, float]:
        """Reconstruction and retrieval of held-out source trials: mean share of other held-out clips that the right one beats."""
        self.model.eval()
        z_NLD = encode_in_batches(
            self.model, lambda rows: self.windows.load([int(self.held_out[i]) for i in rows]).to(self.device), len(self.held_out), 64
        )
        x_NLD = self.x_NLD[torch.from_numpy(self.held_out)]
        return {
            "held_out_reconstruction": l2_l1_loss(z_NLD, x_NLD, self.config.stage1.alpha).item(),
            "held_out_rank": retrieval_rank(z_NLD, x_NLD),
        }


def _quality(row: Mapping[str, float]) -> tuple[float, float]:
    """What makes an epoch better: retrieval; where it is saturated, reconstruction, since the LLM's projection reads x itself."""
    return row["held_out_rank"], -row["held_out_reconstruction"]


def retrieval_rank(z_NLD: Tensor, x_NLD: Tensor) -> float:
    """Mean share of the other clips that are less similar to a trial's fMRI embedding than its own clip; 0.5 is chance."""
    similarity = normalize(z_NLD.mean(1), dim=1) @ normalize(x_NLD.mean(1), dim=1).T
    own = similarity.diagonal()[:, None]
    beaten = (similarity < own).float() + 0.5 * (similarity == own).float()
    n = len(similarity)
    return float((beaten.sum(1).sub(0.5) / (n - 1)).mean())
