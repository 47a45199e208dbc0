"""Stage II: instruction tuning of the bridge through the frozen LLM, with unsupervised domain adaptation (paper 3.2, equations 3 to 6).

Everything before the bridge is frozen, so its output z is computed once. The adaptation losses act on the bridge's output, the only
trained thing: a sample's feature is the mean of its bridged tokens, of unit length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from boldscribe.bold.windows import Windows
from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic
from boldscribe.losses import entropy_separation_loss, neighbourhood_clustering_loss, stage2_loss
from boldscribe.models.device import best_device
from boldscribe.models.fmri_encoder import encode_in_batches, load_encoder
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.video_llama import load_llm, load_projection, model_folder
from boldscribe.reproducible import generator, seed_everything
from boldscribe.training.checkpoints import Checkpoints, pack, unpack
from boldscribe.training.schedule import adamw, set_learning_rate, warmup_cosine
from boldscribe.training.source import check_source_only, source_trials

CLASS_TEMPERATURE = 0.05  # of the head's logits, which are cosines (Saito et al. 2020)
STEPS_PER_CHECKPOINT = 10


@dataclass
class SourceData:
    """Source records: fMRI tokens, instruction, pseudo-caption and class of each."""

    z_NLD: Tensor
    instructions: list[str]
    captions: list[str]
    classes: Tensor
    names: list[str]


def train_stage2(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    trials: Sequence[Path],
    labels: Sequence[Path],
    captions: Sequence[Path],
    target_series: Sequence[Path],
    target_trials: Sequence[Path],
    stage1_dir: Path,
    models_dir: Path,
    output_dir: Path,
    work_dir: Path,
) -> None:
    """Train the bridge and the classifier head; write `bridge.safetensors` and `curve.csv`.

    Args:
        series, trials, labels, captions: of the source subjects.
        target_series, target_trials: unlabelled fMRI of the target subjects, of which only adaptation trials are read.
        stage1_dir: the encoder.
        models_dir: the LLM.
        output_dir: outputs.
        work_dir: for checkpoints.

    Raises:
        UserError: a label or caption of a target subject among the input, a record without caption, no adaptation trial.
    """
    table = _captioned(config, dataset, source_trials(config, dataset, trials, labels), captions)
    adaptation = adaptation_trials(target_trials)
    encoder = load_encoder(config, stage1_dir).to(best_device())
    names = sorted(table["action"].unique())
    source = SourceData(
        _encode(config, encoder, series, table),
        table["instruction"].tolist(),
        table["text"].tolist(),
        torch.tensor([names.index(a) for a in table["action"]], device=best_device()),
        names,
    )
    trainer = _Trainer(config, dataset, source, _encode(config, encoder, target_series, adaptation), load_llm(config, models_dir))
    v = config.video_llama
    settings = {"stage2": config.stage2.model_dump(), "prompt": v.prompt, "dtype": v.dtype, "seed": config.seed}
    models = [
        stage1_dir / "fmri_encoder.safetensors",
        stage1_dir / "adaptors" / "adapter_model.safetensors",
        Path(config.video_llama.connectors),
        *sorted(model_folder(config.video_llama.llm, "llm", models_dir).glob("*.safetensors")),
    ]
    checkpoints = Checkpoints("stage2", work_dir, settings, [*series, *trials, *labels, *captions, *target_series, *target_trials, *models])
    trainer.run(checkpoints)
    output_dir.mkdir(parents=True, exist_ok=True)
    state = {f"bridge.{k}": v for k, v in trainer.bridge.state_dict().items()} | {"head.weight": trainer.head.weight}
    with atomic(output_dir / "bridge.safetensors") as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, part, metadata={"classes": json.dumps(names)})
    with atomic(output_dir / "curve.csv") as part:
        pd.DataFrame(trainer.curve).to_csv(part, index=False, float_format="%.6g")
    checkpoints.remove()


def adaptation_trials(trials: Sequence[Path]) -> pd.DataFrame:
    """The unlabelled trials that adapt the model.

    Raises:
        UserError: a table that carries stimuli or labels, or no adaptation trial at all.
    """
    table = pd.concat([pd.read_parquet(p) for p in trials])
    where = ", ".join(map(str, trials))
    if told := sorted({"stim_file", "action", "text", "trial_type"} & set(table.columns)):
        raise UserError(
            where, f"columns: found {', '.join(told)}, expected none of them: target subjects' fMRI adapts the model unlabelled"
        )
    table = table[table["role"] == "adapt"].reset_index(drop=True)
    if table.empty:
        raise UserError(where, "role: found no trial with 'adapt'; name adaptation_runs in the configuration")
    return table


def _captioned(config: Config, dataset: str, table: pd.DataFrame, captions: Sequence[Path]) -> pd.DataFrame:
    texts = pd.concat([pd.read_parquet(p) for p in captions])
    check_source_only(config, dataset, texts, "captions")
    merged = table.merge(texts[["subject", "trial", "text"]], on=["subject", "trial"], how="left", validate="one_to_one")
    if lacking := int(merged["text"].isna().sum()):
        raise UserError(f"captions of {dataset}", f"found none for {lacking} of {len(merged)} records; write the captions again")
    return merged


def _encode(config: Config, encoder: nn.Module, series: Sequence[Path], table: pd.DataFrame) -> Tensor:
    windows = Windows(series, table, config.tokenizer.grid)
    device = best_device()
    return encode_in_batches(encoder, lambda rows: windows.load(list(rows)).to(device), len(windows), 64)


class _Trainer:
    """The state of a Stage II training."""

    def __init__(self, config: Config, dataset: str, source: SourceData, z_target: Tensor, llm: PromptedLlm) -> None:
        self.config, self.dataset, self.source, self.z_target = config, dataset, source, z_target
        device = best_device()
        self.llm = llm.to(device)
        seed_everything(config.seed, "stage2", dataset)
        self.bridge = load_projection(config).to(device).requires_grad_(True)
        self.head = nn.Linear(self.bridge.out_features, len(source.names), bias=False).to(device)
        with torch.no_grad():
            self.memory_ND = self.features(z_target)
        self.parameters: dict[str, Tensor] = dict(self.bridge.named_parameters(prefix="bridge")) | {"head.weight": self.head.weight}
        self.optimiser = adamw(self.parameters.values(), config.stage2.weight_decay)
        self.curve: list[dict[str, float]] = []

    def features(self, z_BLD: Tensor) -> Tensor:
        """Unit feature of each sample: mean of its bridged tokens."""
        return normalize(self.bridge(z_BLD).mean(1), dim=1)

    @property
    def prototypes_CD(self) -> Tensor:
        """Rows of the head, of unit length."""
        return normalize(self.head.weight, dim=1)

    def run(self, checkpoints: Checkpoints) -> None:
        """All optimiser steps, from the latest checkpoint on."""
        s = self.config.stage2
        start = 0
        if (found := checkpoints.latest()) is not None:
            start, tensors, self.curve = found
            unpack(tensors, self.parameters, self.optimiser)
            self.memory_ND = tensors["memory"].to(self.memory_ND.device)
        progress = tqdm(range(start, s.steps), "Stage II", initial=start, total=s.steps, mininterval=5)
        for step in progress:
            rate = warmup_cosine(step, total=s.steps, warmup=s.warmup_steps, peak=s.learning_rate, end=s.min_learning_rate)
            set_learning_rate(self.optimiser, rate)
            row = {"step": step + 1, **self._step(step), "learning_rate": rate}
            self.curve.append(row)
            progress.set_postfix(loss=f"{row['loss']:.3f}", cross_entropy=f"{row['cross_entropy']:.3f}")
            if (step + 1) % STEPS_PER_CHECKPOINT == 0:
                checkpoints.save(step + 1, pack(self.parameters, self.optimiser) | {"memory": self.memory_ND}, self.curve)

    def _step(self, step: int) -> dict[str, float]:
        s = self.config.stage2
        seed_everything(self.config.seed, "stage2", self.dataset, step)
        self.optimiser.zero_grad()
        sums: dict[str, float] = {}
        touched = []
        for part in range(s.accumulate):
            batch = self._draw(len(self.source.captions), "source", step * s.accumulate + part)
            target = self._draw(len(self.z_target), "target", step * s.accumulate + part)
            values = self._losses(batch, target)
            (values["loss"] / s.accumulate).backward()
            touched.append(target)
            sums = {k: sums.get(k, 0.0) + v.item() / s.accumulate for k, v in values.items()}
        self.optimiser.step()
        self._remember(torch.cat(touched).unique())
        return sums

    def _draw(self, n: int, purpose: str, number: int) -> Tensor:
        """Batch `number` of an endless sequence of shuffled passes over n records."""
        size = min(self.config.stage2.batch_size, n)
        passes, position = divmod(number, n // size)
        order = generator(self.config.seed, "stage2", self.dataset, purpose, passes).permutation(n)
        return torch.from_numpy(np.sort(order[position * size : (position + 1) * size])).to(self.z_target.device)

    def _losses(self, batch: Tensor, target: Tensor) -> dict[str, Tensor]:
        s = self.config.stage2
        tokens = self.bridge(self.source.z_NLD[batch])
        rows = batch.tolist()
        answer = self.llm.caption_loss([self.source.instructions[i] for i in rows], tokens, [self.source.captions[i] for i in rows])
        logits = normalize(tokens.mean(1), dim=1) @ self.prototypes_CD.T / CLASS_TEMPERATURE
        losses = {"cross_entropy": answer, "class": cross_entropy(logits, self.source.classes[batch])}
        f_BD = self.features(self.z_target[target])
        zero = torch.zeros((), device=f_BD.device)
        losses["neighbourhood"] = (
            neighbourhood_clustering_loss(f_BD, target, self.memory_ND, self.prototypes_CD, s.nc_temperature)
            if s.adaptation in ("nc", "both")
            else zero
        )
        losses["entropy"] = (
            entropy_separation_loss(
                f_BD @ self.prototypes_CD.T / CLASS_TEMPERATURE,
                margin=s.es_margin,
                threshold=s.es_threshold,
            )
            if s.adaptation in ("es", "both")
            else zero
        )
        # Not in equation 6: the loss on source labels that trains the head, whose rows are the prototypes of NC and ES.
        adaptation = s.class_weight * losses["class"] + losses["neighbourhood"] + losses["entropy"]
        return {"loss": stage2_loss(answer, adaptation, s.lambda_), **losses}

    @torch.no_grad()
    def _remember(self, target: Tensor) -> None:
        """Overwrite the bank's slots of the samples just seen; the bank is never trained."""
        momentum = self.config.stage2.memory_momentum
        fresh = self.features(self.z_target[target])
        self.memory_ND[target] = normalize(momentum * self.memory_ND[target] + (1 - momentum) * fresh, dim=1)
