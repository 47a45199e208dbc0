"""Pretraining of SC-MBM as a masked autoencoder on the BOLD of source subjects, and of people who appear in no table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from boldscribe.config import Config
from boldscribe.data.batches import Batches
from boldscribe.data.windows import Windows
from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import generator, seed_everything
from boldscribe.models.device import autocast
from boldscribe.models.sc_mbm import MaskedAutoencoder, start_blocks
from boldscribe.training.checkpoints import Checkpoints, trainable
from boldscribe.training.distributed import check_divisible, process_group, rank, share, whole_batch
from boldscribe.training.learning_rate import warmup_cosine
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.pretraining_data import pretraining_windows
from boldscribe.training.source import check_source_only


def pretrain_sc_mbm(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    further: Sequence[Path] = (),
    weights: Path,
    curve: Path,
    work_dir: Path,
) -> None:
    """Train the masked autoencoder on windows from the source subjects' entire runs, regardless of trials.

    Args:
        series, trials: of the source subjects (docs/data.md).
        further: series of the subjects of `config.pretraining`.
        weights: the tokenizer's and the blocks' weights, prefixed `tokenizer.` and `sc_mbm.`.
        curve: learning curve (.parquet): `epoch, loss, learning_rate`.
        work_dir: for checkpoints.

    Raises:
        UserError: the input includes a trial or series of a target subject, the checkpoint has another size, or the processes cannot
            share a batch equally.
        Preempted: a signal asked the training run to exit early; the next call resumes from its checkpoint.
    """
    check_divisible(config.sc_mbm.batch_size, "sc_mbm.batch_size")
    index = pd.concat([pd.read_parquet(p) for p in trials])
    check_source_only(config, dataset, index)
    windows = pretraining_windows(config, dataset, series, further)
    start = [Path(config.sc_mbm.checkpoint)] if config.sc_mbm.checkpoint else []
    checkpoints = Checkpoints("pretrain_sc_mbm", work_dir, config.model_dump(mode="json"), [*series, *further, *start])
    with preemption.handling_signals(), process_group() as device:
        seed_everything(config.seed, "sc_mbm", dataset)
        model = MaskedAutoencoder(config.sc_mbm, config.tokenizer, config.bold.n_volumes)
        if start:
            start_blocks(model.encoder, start[0], config.sc_mbm)
        training = Pretraining(config, dataset, windows, model, checkpoints, device)
        training.run()
    if rank() > 0:
        return
    parts = {"sc_mbm": model.encoder, "tokenizer": model.tokenizer}
    with atomic(weights) as part:
        save_file({f"{name}.{k}": v.cpu().contiguous() for name, module in parts.items() for k, v in module.state_dict().items()}, part)
    training.steps.write_curve(curve)
    checkpoints.remove()


class Pretraining:
    """A pretraining run: an epoch is one pass over the windows, in full batches."""

    def __init__(
        self, config: Config, dataset: str, windows: Windows, model: MaskedAutoencoder, checkpoints: Checkpoints, device: torch.device
    ) -> None:
        s = config.sc_mbm
        self.config, self.dataset, self.device, self.n = config, dataset, device, len(windows)
        self.model = model.to(device)
        self.loss: nn.Module = torch.compile(self.model) if config.training.compile else self.model  # type: ignore[assignment]
        self.batches = Batches(windows, device)
        self.size = whole_batch(s.batch_size, self.n, f"windows of {dataset}")
        self.steps_per_epoch = self.n // self.size
        total, warmup = s.epochs * self.steps_per_epoch, s.warmup_epochs * self.steps_per_epoch
        self.steps = Optimisation(
            seed=config.seed,
            purpose=("sc_mbm", dataset),
            parameters=trainable(self.model),
            rate=lambda step: warmup_cosine(step, total=total, warmup=warmup, peak=s.learning_rate),
            steps=total,
            weight_decay=s.weight_decay,
            grad_clip=s.grad_clip,
            checkpoints=checkpoints,
        )

    def run(self) -> None:
        """Run all epochs from the latest checkpoint on."""
        self.steps.resume()
        for step in self.steps:
            self.batches.expect(self._rows(step + 1))
            with autocast(self.device, self.config.training.precision):
                loss = self.loss(self.batches.load(self._rows(step)))
            loss.backward()
            self.steps.update({"loss": loss})
            if (step + 1) % self.steps_per_epoch == 0:
                row = {"epoch": (step + 1) // self.steps_per_epoch, **self.steps.means(), "learning_rate": self.steps.rate(step)}
                self.steps.curve.append(row)

    def _rows(self, step: int) -> Tensor:
        """This process's windows of a step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = generator(self.config.seed, "sc_mbm", self.dataset, "order", epoch).permutation(self.n)
        return share(torch.from_numpy(order[position * self.size : (position + 1) * self.size]))
