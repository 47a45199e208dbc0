"""From frames to pseudo-captions, in batches against one clip at a time: `python -m benchmarks.captions --help`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import torch

from benchmarks.measuring import language_model, machine, make_frames, peak_memory, scale_option, seconds, settings, visual_encoder
from boldscribe.models.device import best_device
from boldscribe.models.video_llama import encode_frames, load_frame_tokens, load_projection, load_video_q_former


@click.command()
@scale_option
@click.option("--clips", default=32, show_default=True)
@click.option("--alone", default=4, show_default=True, help="Clips also captioned one at a time.")
@click.option("--max-new-tokens", default=40, show_default=True)
@torch.inference_mode()
def main(scale: str, clips: int, alone: int, max_new_tokens: int) -> None:
    """Time features and captions and print rates and ratio."""
    device = best_device()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = visual_encoder(scale, folder)
        config = settings(scale, folder, encoder.width)
        llm = language_model(scale, config, folder)
        to_tokens, q_former = load_frame_tokens(config, encoder.width).to(device), load_video_q_former(config).to(device)
        projection = load_projection(config).to(device)
        frames = torch.from_numpy(make_frames(config, clips))
        question = config.video_llama.instructions[0]

        def features(n: int, size: int) -> torch.Tensor:
            return torch.cat([to_tokens(encode_frames(encoder, part.to(device))) for part in frames[:n].split(size)])

        def captions(n: int, size: int) -> None:
            tokens = projection(q_former(features(n, 8 if size > 1 else 1)))
            llm.generate([question] * n, tokens, max_new_tokens=max_new_tokens, batch_size=size)

        features(1, 1)
        rate = clips / seconds(lambda: features(clips, 8))
        batched, single = clips / seconds(lambda: captions(clips, clips)), alone / seconds(lambda: captions(alone, 1))
    print(f"Captions of noise, {scale} scale, {config.stimuli.n_frames} frames, at most {max_new_tokens} tokens; {machine()}\n")
    print("| clips at once | captions/s, from frames |\n| --- | ---: |")
    print(f"| {clips} | {batched:.2f} |\n| 1 | {single:.3f} |\n| **ratio** | **{batched / single:.1f}** |\n")
    print(f"Features alone: {rate:.2f} clips/s; peak memory {peak_memory():.1f} GiB")


if __name__ == "__main__":
    main()
