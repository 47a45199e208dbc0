"""Pseudo-captions: Video-LLaMA's answer, from the video, to the instruction of each record (paper 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.files import atomic, load_array
from boldscribe.models.device import best_device
from boldscribe.models.video_llama import load_llm, load_projection, load_video_q_former
from boldscribe.reproducible import seed_everything
from boldscribe.stimuli.shards import records

COLUMNS = ["subject", "trial", "stim_file", "instruction", "text"]


def write_captions(
    config: Config,
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    features: Path,
    models_dir: Path,
    output: Path,
) -> None:
    """Caption the clips of a shard, one answer per record; records that share clip and instruction share the answer.

    Writes a table with `subject, trial, stim_file, instruction, text`.
    """
    settings = config.video_llama
    tokens, header = load_array(features)
    row = {clip: i for i, clip in enumerate(header["clips"])}
    role = "train" if features.name.startswith("train") else "test"
    table = records(trials, labels, role)
    table = table[table["stim_file"].isin(row)]
    questions = table[["stim_file", "instruction"]].drop_duplicates().reset_index(drop=True)
    seed_everything(config.seed, "captions", features.name)
    device = best_device()
    llm = load_llm(config, models_dir).to(device)
    q_former, projection = load_video_q_former(config).to(device), load_projection(config).to(device)
    answers: list[str] = []
    for start in tqdm(range(0, len(questions), settings.batch_size), "captions", mininterval=5):
        batch = questions.iloc[start : start + settings.batch_size]
        with torch.inference_mode():
            clips = torch.from_numpy(tokens[[row[c] for c in batch["stim_file"]]]).float().to(device)
            soft = projection(q_former(clips))
        answers += llm.generate(
            batch["instruction"].tolist(),
            soft,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            do_sample=settings.do_sample,
            temperature=settings.temperature,
            top_p=settings.top_p,
        )
    questions["text"] = answers
    captions = table.merge(questions, on=["stim_file", "instruction"], validate="many_to_one")
    with atomic(output) as part:
        captions[COLUMNS].to_parquet(part, index=False)
