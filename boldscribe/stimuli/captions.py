"""Pseudo-captions: a video model's answer to each record's instruction, given its video (paper 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import seed_everything
from boldscribe.stimuli.captioners import load_captioner
from boldscribe.stimuli.familiarity import warning
from boldscribe.stimuli.shards import records

log = logging.getLogger(__name__)
COLUMNS = ["subject", "trial", "stim_file", "instruction", "text"]


def write_captions(
    config: Config,
    *,
    trials: Sequence[Path],
    labels: Sequence[Path],
    clips: Path,
    models_dir: Path,
    output: Path,
    again: bool = False,
) -> None:
    """Caption the clips of a shard, one answer per record; records with the same clip and instruction share it.

    Writes a table with `subject, trial, stim_file, instruction, text`; its attribute `captioner` identifies the model. Clips that the
    captioner does not know are told before they are captioned.

    Args:
        config: the experiment.
        trials, labels: of the shard's subjects.
        clips: features of the shard's clips for Video-LLaMA, frames for a video-text model.
        models_dir: folder of the provided models.
        output: the table.
        again: use another seed, and sample even if the captions are greedy, for the captioner's agreement with itself.
    """
    seed_everything(config.seed, "captions again" if again else "captions", clips.name)
    captioner = load_captioner(config, clips, models_dir, sampled=again or config.video_llama.do_sample)
    if unlike := captioner.origin.get("unlike"):
        log.warning("%s", warning(unlike, len(captioner.clips)))
    role = "train" if clips.name.startswith("train") else "test"
    table = records(trials, labels, role)
    table = table[table["stim_file"].isin(captioner.clips)]
    questions = table[["stim_file", "instruction"]].drop_duplicates().reset_index(drop=True)
    answers: list[str] = []
    for start in tqdm(range(0, len(questions), captioner.batch_size), "captions", mininterval=5):
        batch = questions.iloc[start : start + captioner.batch_size]
        answers += captioner.answer(batch["stim_file"].tolist(), batch["instruction"].tolist())
    questions["text"] = answers
    captions = table.merge(questions, on=["stim_file", "instruction"], validate="many_to_one")[COLUMNS]
    captions.attrs["captioner"] = captioner.origin
    with atomic(output) as part:
        captions.to_parquet(part, index=False)
