"""GPU-hours of the paper's experiment, estimated from the arithmetic of its models: `python -m benchmarks.projection --help`.

Nothing is timed. The operations of each stage are counted by torch on models of full size that take no memory (meta device), then
divided by the share of a card's dense bf16 rate that is assumed to be reached. Where benchmarks have been run on a GPU, their rates
tell more. Generating text is bound by reading the weights, not by arithmetic: it is estimated from memory bandwidth and batch size.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import Blip2VisionConfig, Blip2VisionModel, LlamaConfig, LlamaForCausalLM

from benchmarks.measuring import settings
from boldscribe.config import Config
from boldscribe.models.adaptor import add_adaptors
from boldscribe.models.fmri_encoder import FmriEncoder
from boldscribe.models.sc_mbm import MaskedAutoencoder
from boldscribe.models.video_llama import FrameTokens

CLIPS, TRAIN_SUBJECTS, TARGET_SUBJECTS, TRIALS = 21_600, 26, 4, 720  # HAD
ADAPTATION_TRIALS, VOLUMES = 540, 12 * 156  # of a target subject: runs 1 to 9; of a subject: 12 runs
PROMPT, ANSWER = 70, 60  # text tokens around the soft ones, and of an answer


def operations(function: Callable[[], object]) -> float:
    """Floating-point operations of a function on the meta device."""
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def forward_backward(model: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], None]:
    """A pass and its gradients."""

    def run() -> None:
        model(given).float().square().mean().backward()

    return run


def count(config: Config) -> dict[str, float]:
    """Operations of one item of each stage."""
    n_frames, widths, T, grid = config.stimuli.n_frames, config.video_llama.q_former, config.bold.n_volumes, config.tokenizer.grid
    with torch.device("meta"):
        vision, to_tokens = Blip2VisionModel(Blip2VisionConfig()), FrameTokens(config.video_llama, 1408)
        llm = LlamaForCausalLM(LlamaConfig()).requires_grad_(False)
        frames, visual = torch.empty(n_frames, 3, config.stimuli.size, config.stimuli.size), torch.empty(1, n_frames, 257, 1408)
        bold = torch.empty(1, T, *grid)
        sequence = torch.empty(1, S := PROMPT + widths.n_queries + ANSWER, 4096).requires_grad_()
        mask = torch.empty(1, 1, S, S)
    encoder = add_adaptors(FmriEncoder(config), config.adaptor).to("meta").eval()
    encoder.get_base_model().tokenizer.requires_grad_(True)
    encoder.get_base_model().to_q_former.requires_grad_(True)
    autoencoder = MaskedAutoencoder(config.sc_mbm, config.tokenizer, T)
    tokens = torch.empty(4, round(autoencoder.tokenizer.n_tokens * (1 - config.sc_mbm.mask_ratio)), config.sc_mbm.dim, device="meta")
    full = torch.empty(4, autoencoder.tokenizer.n_tokens, config.sc_mbm.decoder_dim, device="meta")
    parts = autoencoder.to("meta")

    def answer(sequence: Tensor) -> Tensor:
        hidden: Tensor = llm.model(inputs_embeds=sequence, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden

    return {
        "clip": operations(lambda: (vision(frames), to_tokens(visual))),
        "window": sum(
            operations(forward_backward(module, given)) / len(given)
            for module, given in ((parts.tokenizer, bold), (parts.encoder, tokens), (parts.decoder, full))
        ),
        "trial, Stage I": operations(forward_backward(encoder, bold)),
        "trial, encoding": operations(lambda: encoder(bold)),
        "trial, Stage II": operations(forward_backward(answer, sequence)),
        "llm bytes": 2.0 * sum(p.numel() for p in llm.parameters()),
    }


@click.command()
@click.option("--rate", default=989.0, show_default=True, help="Dense bf16 rate of the card (TFLOP/s); that of an H100 SXM.")
@click.option("--bandwidth", default=3.35, show_default=True, help="Its memory bandwidth (TB/s).")
@click.option("--share", default=0.3, show_default=True, help="Share of both that is assumed to be reached.")
@click.option("--epochs", default=None, type=int, help="Epochs of Stage I; the configured most by default, which early stopping cuts.")
def main(rate: float, bandwidth: float, share: float, epochs: int | None) -> None:
    """Print operations and hours of each stage."""
    with tempfile.TemporaryDirectory() as name:
        config = settings("full", Path(name))
        each = count(config)
    conditions, s = len(config.conditions("had")), config.stage2
    train, test = TRAIN_SUBJECTS * TRIALS, TARGET_SUBJECTS * (TRIALS - ADAPTATION_TRIALS)
    windows = TRAIN_SUBJECTS * (VOLUMES // config.bold.n_volumes)
    work = {
        "video features": CLIPS * each["clip"],
        "pretraining of SC-MBM": config.sc_mbm.epochs * windows * each["window"],
        "Stage I": (epochs or config.stage1.epochs) * (1 - config.stage1.holdout) * train * each["trial, Stage I"],
        "fMRI tokens": (train + TARGET_SUBJECTS * TRIALS) * each["trial, encoding"],
        "Stage II": s.steps * s.batch_size * s.accumulate * each["trial, Stage II"],
    }
    hours = {stage: flop / (rate * 1e12 * share) / 3600 for stage, flop in work.items()}
    per_token = each["llm bytes"] / (bandwidth * 1e12 * share)
    captions = train + test  # records of source subjects and of test trials
    for stage, texts, size, longest in (
        ("pseudo-captions", captions, config.video_llama.batch_size, config.video_llama.max_new_tokens),
        (f"decoding, {conditions} conditions", conditions * test, config.decoding.batch_size, config.decoding.max_new_tokens),
    ):
        hours[stage] = math.ceil(texts / size) * longest * per_token / 3600
    print(f"HAD, {rate:.0f} TFLOP/s and {bandwidth} TB/s, of which {share:.0%} assumed. Reckoned, not measured.\n")
    print("| stage | operations | GPU-hours |\n| --- | ---: | ---: |")
    for stage, value in hours.items():
        print(f"| {stage} | {f'{work[stage]:.2e}' if stage in work else 'bound by memory'} | {value:.2f} |")
    print(f"| **all** | | **{sum(hours.values()):.1f}** |")


if __name__ == "__main__":
    main()
