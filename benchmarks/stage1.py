"""Stage I with cached video features against features computed on the fly: `python -m benchmarks.stage1 --help`.

Both train the same encoder on the same batches. On the fly, each step sends the frames of its clips through visual encoder and
Q-Formers first, as code without a cache does. They run in turn; the ratio is that of the medians.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measuring import (
    busy,
    machine,
    make_frames,
    make_trials,
    peak_memory,
    percent,
    scale_option,
    seconds,
    settings,
    visual_encoder,
)
from boldscribe.data.windows import Windows
from boldscribe.models.device import best_device
from boldscribe.models.fmri_encoder import new_encoder
from boldscribe.models.sc_mbm import MaskedAutoencoder
from boldscribe.models.video_llama import encode_frames, load_frame_tokens, load_video_q_former
from boldscribe.training.checkpoints import Checkpoints
from boldscribe.training.stage1 import Stage1


def take(training: Stage1, n: int, before: Callable[[Tensor], None] | None = None) -> int:
    """Train n steps, each after `before` has seen its trials; returns how many trials that were."""
    trained = 0
    for step in islice(training.steps, n):
        training.model.train()
        parts = training.parts(step)
        for rows in parts if before else []:
            before(rows)  # type: ignore[misc]
        training.steps.update(training.gradients(parts, training.parts(step + 1)))
        trained += sum(map(len, parts))
    return trained


@click.command()
@scale_option
@click.option("--steps", default=10, show_default=True, help="Steps per repeat.")
@click.option("--repeats", default=5, show_default=True)
def main(scale: str, steps: int, repeats: int) -> None:
    """Time both in turn and print medians and ratio."""
    device = best_device()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = visual_encoder(scale, folder)
        config = settings(scale, folder, encoder.width)
        subjects, trials = (2, 96) if scale == "reduced" else (4, 720)
        series, table = make_trials(config, folder, subjects, trials)
        windows = Windows(series, table, config.tokenizer.grid)
        autoencoder = MaskedAutoencoder(config.sc_mbm, config.tokenizer, config.bold.n_volumes)
        parts = {"sc_mbm": autoencoder.encoder, "tokenizer": autoencoder.tokenizer}
        save_file({f"{p}.{k}": v for p, m in parts.items() for k, v in m.state_dict().items()}, folder / "sc_mbm.safetensors")
        widths = config.video_llama.q_former
        x_NLD = torch.randn(len(table), widths.n_queries, widths.hidden_size)
        checkpoints = Checkpoints("stage1", folder / "work", {}, [])
        model = new_encoder(config, folder / "sc_mbm.safetensors")
        training = Stage1(config, "had", windows, x_NLD, model, table["stim_file"], checkpoints, device)
        frames = torch.from_numpy(make_frames(config, 64))
        to_tokens, q_former = load_frame_tokens(config, encoder.width).to(device), load_video_q_former(config).to(device)

        @torch.no_grad()
        def encode_clips(rows: Tensor, at_once: int = 8) -> None:
            for chunk in rows.split(at_once):
                visual = encode_frames(encoder, frames[chunk % len(frames)].to(device))
                training.x_NLD[chunk.to(device)] = q_former(to_tokens(visual).float())

        take(training, 3)  # compilation, first allocations
        times: dict[str, list[float]] = {"cached": [], "on the fly": []}
        slow = max(1, steps // 5)
        for _ in range(repeats):
            times["cached"].append(seconds(lambda: take(training, steps)) / (steps * training.size))
            times["on the fly"].append(seconds(lambda: take(training, slow, encode_clips)) / (slow * training.size))
        cached, on_the_fly = (1 / statistics.median(t) for t in times.values())
        share = busy(lambda: take(training, steps))
    print(f"Stage I, {scale} scale, {training.size} trials per step, {repeats} repeats of {steps} and {slow} steps in turn; {machine()}\n")
    print("| video features | trials/s |\n| --- | ---: |")
    print(f"| cached | {cached:.1f} |\n| computed on the fly | {on_the_fly:.2f} |\n| **ratio** | **{cached / on_the_fly:.1f}** |\n")
    print(f"GPU busy with cached features: {percent(share)}; peak memory {peak_memory():.1f} GiB")


if __name__ == "__main__":
    main()
