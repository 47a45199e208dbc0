"""Decoding in batches against one trial at a time, with the same text: `python -m benchmarks.decoding --help`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import torch

from benchmarks.measuring import language_model, machine, peak_memory, scale_option, seconds, settings


@click.command()
@scale_option
@click.option("--trials", default=96, show_default=True, help="Trials decoded in batches.")
@click.option("--alone", default=12, show_default=True, help="Of these, trials also decoded one at a time.")
@click.option("--batch-size", default=None, type=int, help="Trials at once; all of them by default.")
@click.option("--max-new-tokens", default=32, show_default=True)
def main(scale: str, trials: int, alone: int, batch_size: int | None, max_new_tokens: int) -> None:
    """Time both and print rates, ratio and how many texts agree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = settings(scale, folder)
        llm = language_model(scale, config, folder)
        words = llm.model.get_input_embeddings().weight
        rows = torch.randint(len(words), (trials, config.video_llama.q_former.n_queries, 3), generator=torch.Generator().manual_seed(0))
        soft = words[rows.to(words.device)].mean(2)
        questions = [config.video_llama.instructions[i % len(config.video_llama.instructions)] for i in range(trials)]
        llm.generate(questions[:1], soft[:1], max_new_tokens=2, batch_size=1)
        texts: dict[str, list[str]] = {}

        def decode(key: str, n: int, size: int) -> float:
            def run() -> None:
                texts[key] = llm.generate(questions[:n], soft[:n], max_new_tokens=max_new_tokens, batch_size=size)

            return n / seconds(run)

        single = decode("alone", alone, 1)
        batched = decode("batched", trials, batch_size or trials)
    same = sum(a == b for a, b in zip(texts["alone"], texts["batched"], strict=False))
    print(f"Decoding, {scale} scale, at most {max_new_tokens} tokens, {next(llm.model.parameters()).dtype}; {machine()}\n")
    print("| trials at once | trials/s |\n| --- | ---: |")
    print(f"| {batch_size or trials} | {batched:.2f} |\n| 1 | {single:.3f} |\n| **ratio** | **{batched / single:.1f}** |\n")
    print(f"Same text: {same} of {alone}; peak memory {peak_memory():.1f} GiB")


if __name__ == "__main__":
    main()
