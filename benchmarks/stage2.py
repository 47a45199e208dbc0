"""Stage II: tokens through the LLM per second, and the share of the device's arithmetic that is used: `python -m benchmarks.stage2 --help`.

The named alternative takes the same trials in the order in which they were drawn, not by length, so that passes hold more padding.
The arithmetic that must be done is 4 operations per parameter and token: 2 forward, 2 backward toward the inputs; frozen weights need
none for their own gradients. It is set against the rate of a large matrix product in the same precision on the same device.
"""

from __future__ import annotations

import statistics
import tempfile
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.measuring import language_model, machine, matmul_rate, peak_memory, scale_option, settings, timed
from boldscribe.models.device import best_device
from boldscribe.training.checkpoints import Checkpoints
from boldscribe.training.stage2 import SourceData, Stage2

CLASSES = 48
WORDS = "a man woman in red blue coat runs walks jumps sits on the grass and then waves at someone near water".split()  # noqa: SIM905


def make_source(n: int, instructions: list[str], L: int, d: int) -> SourceData:
    """Records with captions of 8 to 60 random words: the lengths of one-sentence and of detailed pseudo-captions."""
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(WORDS, rng.integers(8, 61))) for _ in range(n)]
    questions = [str(q) for q in rng.choice(instructions, n)]
    classes = torch.arange(n) % CLASSES
    return SourceData(torch.randn(n, L, d), questions, captions, classes, [str(i) for i in range(CLASSES)])


@click.command()
@scale_option
@click.option("--steps", default=4, show_default=True, help="Optimiser steps per repeat.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--batch-size", default=None, type=int, help="Trials per pass through the LLM; 4, or 32 on a GPU.")
def main(scale: str, steps: int, repeats: int, batch_size: int | None) -> None:
    """Time both in turn and print medians, ratio and share of the arithmetic."""
    size = batch_size or (32 if torch.cuda.is_available() else 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = settings(scale, folder)
        stage2 = config.stage2.model_copy(update={"batch_size": size, "accumulate": 4, "steps": 10**6, "warmup_steps": 1})
        config = config.model_copy(update={"stage2": stage2})
        llm = language_model(scale, config, folder)
        widths = config.video_llama.q_former
        source = make_source(2048, config.video_llama.instructions, widths.n_queries, widths.hidden_size)
        z_target = torch.randn(1024, widths.n_queries, widths.hidden_size)
        training = Stage2(config, "had", source, z_target, llm, Checkpoints("stage2", folder / "work", {}, []), best_device(), "both")
        lengths = training.lengths
        blocks = sum(p.numel() for p in llm.model.model.layers.parameters())
        head = llm.model.lm_head.weight.numel()

        def take(n: int) -> tuple[int, float]:
            """Tokens and operations of n steps."""
            tokens, operations = 0, 0.0
            for step in islice(training.steps, n):
                rows = training.draw(len(source.captions), "source", step)
                training.steps.update(training.gradients(rows, training.draw(len(z_target), "target", step)))
                answers = sum(llm.answer_length(source.captions[i]) for i in rows.tolist())
                read = int(lengths[rows.numpy()].sum()) + len(rows) * (widths.n_queries - 1)  # the last answer token is not read
                tokens, operations = tokens + read, operations + 4 * (blocks * read + head * answers)
            return tokens, operations

        take(1)
        rates: dict[str, list[float]] = {"by length": [], "as drawn": []}
        used = []
        for _ in range(repeats):
            for order, chosen in (("by length", lengths), ("as drawn", np.zeros_like(lengths))):
                training.lengths = chosen
                (tokens, operations), wall = timed(lambda: take(steps))
                rates[order].append(tokens / wall)
                if order == "by length":
                    used.append(operations / wall)
        rate = matmul_rate(next(llm.model.parameters()).dtype)
    by_length, as_drawn = (statistics.median(r) for r in rates.values())
    print(f"Stage II, {scale} scale ({blocks / 1e9:.2f} billion parameters in the blocks), {size} trials per pass, 4 passes per step,")
    print(f"{repeats} repeats of {steps} steps in turn; {machine()}\n")
    print("| passes | tokens/s |\n| --- | ---: |")
    print(f"| by length | {by_length:.0f} |\n| as drawn | {as_drawn:.0f} |\n| **ratio** | **{by_length / as_drawn:.2f}** |\n")
    print(f"Arithmetic used: {statistics.median(used) / 1e12:.2f} of {rate / 1e12:.2f} TFLOP/s that a matrix product reaches: ", end="")
    print(f"**{100 * statistics.median(used) / rate:.0f} %**; peak memory {peak_memory():.1f} GiB")


if __name__ == "__main__":
    main()
