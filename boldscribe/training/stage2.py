"""Stage II: instruction tuning of the bridge through the frozen LLM, with unsupervised domain adaptation (paper 3.2, equations 3 to 6).

Source subjects provide tokens, captions and classes; target subjects provide unlabelled tokens of adaptation trials. Only the bridge
and the classifier head are trained; the encoder of Stage I is frozen, so its tokens are precomputed.
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
from torch.nn.functional import normalize

from boldscribe.conditions import ADAPTATIONS
from boldscribe.config import Config
from boldscribe.losses import class_logits, class_loss, stage2_loss
from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import generator, seed_everything
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.token_files import read_fmri_tokens
from boldscribe.models.video_llama import load_llm, load_projection, model_folder
from boldscribe.training.adaptation import MemoryBank, Target, adaptation_losses
from boldscribe.training.checkpoints import Checkpoints
from boldscribe.training.distributed import check_divisible, gather, n_processes, process_group, rank, share, total, whole_batch
from boldscribe.training.learning_rate import warmup_cosine
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.source import check_source_only, source_trials


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
    bridge: str = "model",
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    captions: Sequence[Path],
    tokens: Path,
    target_tokens: Path,
    models_dir: Path,
    output_dir: Path,
    work_dir: Path,
) -> None:
    """Train the bridge and the classifier head; write `bridge.safetensors` and `curve.parquet`.

    Args:
        dataset: label.
        bridge: adaptation losses (`none`, `nc`, `es`, `both`) that override the configured ones; any other name keeps these.
        trials, labels, captions: of the source subjects.
        tokens: fMRI tokens of their trials.
        target_tokens: those of the target subjects' adaptation trials.
        models_dir: the LLM.
        output_dir: outputs.
        work_dir: for checkpoints.

    Raises:
        UserError: the input includes a label or caption of a target subject or tokens of another role, a record has no caption or
            tokens, or the processes cannot share a batch equally.
        Preempted: a signal asked the training run to exit early; the next call resumes from its checkpoint.
    """
    s, v = config.stage2, config.video_llama
    check_divisible(s.batch_size * s.accumulate, "stage2.batch_size x stage2.accumulate")
    table = captioned(config, dataset, source_trials(config, dataset, trials, labels), captions)
    source = source_data(table, tokens)
    z_target = adaptation_tokens(config, dataset, target_tokens)
    adaptation = bridge if bridge in ADAPTATIONS else s.adaptation
    settings = config.model_dump(mode="json") | {"adaptation": adaptation}
    models = [Path(v.connectors), *sorted(model_folder(v.llm, "llm", models_dir).glob("*.safetensors"))]
    checkpoints = Checkpoints("stage2", work_dir, settings, [*trials, *labels, *captions, tokens, target_tokens, *models])
    with preemption.handling_signals(), process_group() as device:
        training = Stage2(config, dataset, source, z_target, load_llm(config, models_dir), checkpoints, device, adaptation)
        training.run()
    if rank() > 0:
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    state = {f"bridge.{k}": t for k, t in training.bridge.state_dict().items()} | {"head.weight": training.head.weight}
    with atomic(output_dir / "bridge.safetensors") as part:
        save_file({k: t.detach().cpu().contiguous() for k, t in state.items()}, part, metadata={"classes": json.dumps(source.names)})
    training.steps.write_curve(output_dir / "curve.parquet")
    checkpoints.remove()


def captioned(config: Config, dataset: str, table: pd.DataFrame, captions: Sequence[Path]) -> pd.DataFrame:
    """Add the pseudo-captions of source trials as `text`.

    Raises:
        UserError: there are captions of a target subject, or a record has none.
    """
    texts = pd.concat([pd.read_parquet(p) for p in captions])
    check_source_only(config, dataset, texts, "captions")
    merged = table.merge(texts[["subject", "trial", "text"]], on=["subject", "trial"], how="left", validate="one_to_one")
    if lacking := int(merged["text"].isna().sum()):
        raise UserError(f"captions of {dataset}", f"found none for {lacking} of {len(merged)} records; write the captions again")
    return merged


def source_data(table: pd.DataFrame, tokens: Path) -> SourceData:
    """Load source records in the order of their tokens.

    Raises:
        UserError: the tokens are of other trials than the table's.
    """
    z_NLD, rows = read_fmri_tokens(tokens, "train")
    merged = rows.merge(table, on=["subject", "trial"], how="inner", validate="one_to_one")
    if not len(rows) == len(table) == len(merged):
        raise UserError(str(tokens), f"found tokens of {len(rows)} trials, expected those of the {len(table)} source trials; encode again")
    names = sorted(merged["action"].unique())
    classes = torch.tensor([names.index(action) for action in merged["action"]])
    return SourceData(torch.from_numpy(z_NLD), merged["instruction"].tolist(), merged["text"].tolist(), classes, names)


def adaptation_tokens(config: Config, dataset: str, path: Path) -> Tensor:
    """Load the tokens of the target subjects' adaptation trials.

    Raises:
        UserError: the tokens are of another role, or of a subject that is not a target subject.
    """
    z_NLD, rows = read_fmri_tokens(path, "adapt")
    if foreign := sorted(set(rows["subject"]) - set(config.datasets[dataset].validation_subjects)):
        raise UserError(str(path), f"subjects: found {', '.join(foreign)}, expected target subjects only; encode again")
    return torch.from_numpy(z_NLD)


class Stage2:
    """A Stage II training run: each step takes as many target trials as source trials."""

    def __init__(
        self,
        config: Config,
        dataset: str,
        source: SourceData,
        z_target: Tensor,
        llm: PromptedLlm,
        checkpoints: Checkpoints,
        device: torch.device,
        adaptation: str,
    ) -> None:
        s = config.stage2
        self.adaptation = adaptation
        self.config, self.dataset, self.source, self.device = config, dataset, source, device
        self.llm = llm.to(device)
        seed_everything(config.seed, "stage2", dataset)
        self.bridge = load_projection(config).to(device).requires_grad_(True)
        self.head = nn.Linear(self.bridge.out_features, len(source.names), bias=False).to(device)
        # The bridge is linear, so the mean of bridged tokens is the bridged mean: all that adaptation needs of a trial.
        self.source_mean_ND, self.target_mean_ND = source.z_NLD.mean(1).to(device), z_target.mean(1).to(device)
        self.lengths = np.array(llm.lengths(source.instructions, source.captions))
        with torch.no_grad():
            self.bank = MemoryBank(self.bridge(self.target_mean_ND), s.memory_momentum)
        self.steps = Optimisation(
            seed=config.seed,
            purpose=("stage2", dataset),
            parameters=dict(self.bridge.named_parameters(prefix="bridge")) | {"head.weight": self.head.weight},
            rate=lambda i: warmup_cosine(i, total=s.steps, warmup=s.warmup_steps, peak=s.learning_rate, end=s.min_learning_rate),
            steps=s.steps,
            weight_decay=s.weight_decay,
            grad_clip=None,
            checkpoints=checkpoints,
        )

    def run(self) -> None:
        """Run all optimiser steps from the latest checkpoint on."""
        self.steps.kept["memory"] = self.bank.features_ND
        self.steps.resume()
        self.bank.features_ND = self.steps.kept["memory"]
        for step in self.steps:
            source, target = self.draw(len(self.source.captions), "source", step), self.draw(len(self.target_mean_ND), "target", step)
            self.steps.update(self.gradients(source, target))
            self.steps.curve.append({"step": step + 1, **self.steps.means(), "learning_rate": self.steps.rate(step)})

    def features(self, mean_BD: Tensor) -> Tensor:
        """Unit feature of each sample: normalised mean of its bridged tokens."""
        return normalize(self.bridge(mean_BD), dim=1)

    def draw(self, n: int, purpose: str, step: int) -> Tensor:
        """Draw the trials of a step from an endless sequence of shuffled passes over n records."""
        size = whole_batch(self.config.stage2.batch_size * self.config.stage2.accumulate, n, f"{purpose} trials of {self.dataset}")
        passes, position = divmod(step, n // size)
        order = generator(self.config.seed, "stage2", self.dataset, purpose, passes).permutation(n)
        return torch.from_numpy(order[position * size : (position + 1) * size])

    def gradients(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the gradients of equation 6 over a step's trials, and return its terms.

        Equation 6 is a sum, so its terms are differentiated separately. The LLM's activations of all trials of a step do not fit on a
        GPU, so the cross-entropy is computed in passes over trials of similar length. Each answer token of the step has the same weight.
        The adaptation compares all target trials of the step with each other, without the LLM.
        """
        s = self.config.stage2
        own = target.to(self.device)
        part_BD = self.features(self.target_mean_ND[share(own)])
        whole_BD = gather(part_BD)
        prototypes_CD = normalize(self.head.weight, dim=1)
        losses = adaptation_losses(s, Target(part_BD, whole_BD, own, rank() * len(part_BD)), self.bank, prototypes_CD, self.adaptation)
        source = share(source)
        logits = class_logits(self.features(self.source_mean_ND[source.to(self.device)]), prototypes_CD)
        losses["class"] = class_loss(logits, self.source.classes[source].to(self.device))
        adaptation = s.class_weight * losses["class"] + s.nc_weight * losses["neighbourhood"] + s.es_weight * losses["entropy"]
        stage2_loss(adaptation.new_zeros(()), adaptation, s.lambda_).backward()
        losses["cross_entropy"] = self._answers(source)
        self.bank.update(own, whole_BD)
        return {"loss": stage2_loss(losses["cross_entropy"], adaptation.detach(), s.lambda_), **losses}

    def _answers(self, source: Tensor) -> Tensor:
        """Backpropagate and return the answers' cross-entropy; averaged over processes, it is the mean over the step's answer tokens."""
        answers = sum(self.llm.answer_length(self.source.captions[i]) for i in source.tolist())
        weight = n_processes() / total(answers)
        by_length = source[torch.from_numpy(np.argsort(self.lengths[source.numpy()], kind="stable"))]
        mean = torch.zeros((), device=self.device)
        for rows in by_length.split(self.config.stage2.batch_size):
            tokens = self.bridge(self.source.z_NLD[rows].to(self.device))
            chosen = rows.tolist()
            summed = self.llm.caption_loss(
                [self.source.instructions[i] for i in chosen], tokens, [self.source.captions[i] for i in chosen], reduction="sum"
            )
            stage2_loss(weight * summed, summed.new_zeros(()), self.config.stage2.lambda_).backward()
            mean += weight * summed.detach()
        return mean
