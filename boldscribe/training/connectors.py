"""Training of the miniature Video-LLaMA's connectors on rendered clips that no data set uses (rule `train_connectors`).

There are two steps, as in BLIP-2 and Video-LLaMA. First, the Q-Formers learn to align a clip with the sentence that describes it
(contrast with a frozen sentence encoder, plus temporary heads that name what is seen). Then Q-Formers and projection learn to
caption through the frozen LLM.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.machinery.files import atomic, load_array, save_array, write_json
from boldscribe.machinery.reproducible import generator, seed_everything
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.q_former import bert_state
from boldscribe.models.sentence_encoder import SentenceEncoder
from boldscribe.models.video_llama import Connectors, encode_frames, load_encoder, load_llm
from boldscribe.models.weight_files import load_weights
from boldscribe.simulation.render import render
from boldscribe.simulation.scenes import VOCABULARY, Scene, describe, draw_scenes
from boldscribe.stimuli.familiarity import NAME, familiar_clips, mean_tokens
from boldscribe.stimuli.frames import uniform_indices
from boldscribe.training.checkpoints import fingerprint
from boldscribe.training.connectors_record import FIELDS, SECTIONS, judge, readme, record_of

CONTRAST_TEMPERATURE = 0.05
MEANS_AT_ONCE = 100  # clips whose tokens are averaged in single precision


def train_connectors(config: Config, models_dir: Path, out_dir: Path, work_dir: Path) -> None:
    """Train, evaluate on unseen clips, and write `connectors.safetensors`, its record `connectors.json`, and README.md.

    `familiar.safetensors` tells later which clips are unlike the training clips (`boldscribe.stimuli.familiarity`).

    Args:
        config: sections `connectors`, `video_llama`, `stimuli`, `simulation` and the seed are read.
        models_dir: unpacked llm, visual_encoder and sentence_encoder.
        out_dir: folder for the four files.
        work_dir: keeps visual tokens and aligned Q-Formers, from which a stopped training run resumes.
    """
    seed_everything(config.seed, "connectors")
    scenes = {
        split: draw_scenes(n, generator(config.seed, "connectors", split))
        for split, n in (("train", config.connectors.n_clips), ("test", config.connectors.n_test_clips))
    }
    settings = {name: getattr(config, name).model_dump() for name in SECTIONS} | {"seed": config.seed}
    frozen = [models_dir / asset / "model.safetensors" for asset in ("visual_encoder", "sentence_encoder", "llm")]
    work = work_dir / fingerprint(
        "train_connectors", {**settings, "connectors": {k: v for k, v in settings["connectors"].items() if "caption" not in k}}, frozen
    )
    visual = {split: _kept_tokens(config, models_dir, s, work / f"{split}_visual.npy") for split, s in scenes.items()}
    llm = load_llm(config, models_dir)
    model = Connectors(config.video_llama, visual["train"].shape[-1], llm.width)
    losses = {"alignment": _kept_alignment(config, model, models_dir, visual["train"], scenes["train"], work)}
    _scale_like_words(model.llama_proj, llm)
    losses["captioning"] = _caption(config, model, llm, visual["train"], scenes["train"])
    accuracy, texts = judge(config, model, llm, visual["test"], scenes["test"])
    out_dir.mkdir(parents=True, exist_ok=True)
    with atomic(out_dir / "connectors.safetensors") as part:
        save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, part)
    familiar_clips(*(_means(visual[split]) for split in ("train", "test"))).save(out_dir / NAME)
    record = record_of(config, models_dir, out_dir, losses, accuracy, texts)
    write_json(out_dir / "connectors.json", record)
    with atomic(out_dir / "README.md") as part:
        part.write_text(readme(record))
    shutil.rmtree(work)


def _kept_tokens(config: Config, models_dir: Path, scenes: list[Scene], path: Path) -> NDArray[np.float16]:
    if not path.exists():
        save_array(path, visual_tokens(config, models_dir, scenes), axes=["clip", "frame", "token", "feature"])
    return load_array(path)[0]


def _means(visual: NDArray[np.float16]) -> Tensor:
    parts = np.array_split(visual, math.ceil(len(visual) / MEANS_AT_ONCE))
    return torch.cat([mean_tokens(torch.from_numpy(part.astype(np.float32))) for part in parts])


def _kept_alignment(
    config: Config,
    model: Connectors,
    models_dir: Path,
    visual: NDArray[np.float16],
    scenes: list[Scene],
    work: Path,
) -> list[float]:
    path = work / "aligned.safetensors"
    if path.exists():
        model.load_state_dict(load_weights(path, "remove it and run again")[0])
        return [float(x) for x in load_array(work / "alignment_loss.npy")[0]]
    start_from_bert(model, config, models_dir)
    losses = _align(config, model, models_dir, visual, scenes)
    save_array(work / "alignment_loss.npy", np.array(losses), axes=["epoch"])
    with atomic(path) as part:
        save_file(model.state_dict(), part)
    return losses


@torch.no_grad()
def _scale_like_words(projection: nn.Linear, llm: PromptedLlm) -> None:
    """Initialise the projection to match the spread of the LLM's word embeddings; the Q-Former's tokens have unit variance."""
    spread = llm.model.get_input_embeddings().weight.float().std()
    nn.init.normal_(projection.weight, std=float(spread) / projection.in_features**0.5)
    nn.init.zeros_(projection.bias)


def visual_tokens(config: Config, models_dir: Path, scenes: list[Scene]) -> NDArray[np.float16]:
    """Render scenes and encode their frames: float16 (clips, T, N, width)."""
    encoder = load_encoder(config, models_dir)
    s = config.simulation
    rows = []
    for scene in tqdm(scenes, "visual tokens", mininterval=5):
        frames = render(scene, size=s.clip_size, fps=s.clip_fps, seconds=s.clip_seconds)
        chosen = frames[uniform_indices(len(frames), config.stimuli.n_frames)]
        rows.append(encode_frames(encoder, torch.from_numpy(chosen)[None])[0].half().numpy())
    return np.stack(rows)


def start_from_bert(model: Connectors, config: Config, models_dir: Path) -> None:
    """Initialise both Q-Formers from the sentence encoder's BERT; queries and cross-attention start from random values."""
    bert = str(models_dir / "sentence_encoder" / "model.safetensors")
    widths = config.video_llama.q_former
    model.frame_tokens.image_q_former.load_state_dict(bert_state(bert, widths.image_layers), strict=False)
    model.video_q_former.load_state_dict(bert_state(bert, widths.video_layers), strict=False)


def _align(config: Config, model: Connectors, models_dir: Path, visual: NDArray[np.float16], scenes: list[Scene]) -> list[float]:
    """Train by contrasting pooled video tokens with sentence embeddings, and by classifying with temporary heads; return loss per epoch."""
    rng = generator(config.seed, "connectors", "captions")
    sentences = SentenceEncoder(models_dir / "sentence_encoder").encode([describe(s, rng) for s in scenes])
    width = config.video_llama.q_former.hidden_size
    to_sentence = nn.Linear(width, sentences.shape[1])
    heads = nn.ModuleDict({f: nn.Linear(width, len(VOCABULARY[f])) for f in FIELDS})
    labels = {f: torch.tensor([VOCABULARY[f].index(getattr(s, f)) for s in scenes]) for f in FIELDS}

    def loss(rows: NDArray[np.int64]) -> Tensor:
        pooled = model(torch.from_numpy(visual[rows]).float()).mean(1)
        similarity = normalize(to_sentence(pooled), dim=1) @ sentences[rows].T / CONTRAST_TEMPERATURE
        target = torch.arange(len(rows))
        contrast = (cross_entropy(similarity, target) + cross_entropy(similarity.T, target)) / 2
        return contrast + sum((cross_entropy(heads[f](pooled), labels[f][rows]) for f in FIELDS), start=torch.zeros(()))

    parameters = [*model.parameters(), *to_sentence.parameters(), *heads.parameters()]
    groups = [{"params": parameters, "lr": config.connectors.learning_rate}]
    return _optimise(
        config, "alignment", config.connectors.alignment_epochs, config.connectors.batch_size, len(scenes), model, groups, loss
    )


def _caption(config: Config, model: Connectors, llm: PromptedLlm, visual: NDArray[np.float16], scenes: list[Scene]) -> list[float]:
    """Train to caption through the frozen LLM, with a new wording and instruction each time; return loss per epoch."""
    rng = generator(config.seed, "connectors", "wording")

    def loss(rows: NDArray[np.int64]) -> Tensor:
        instructions = [str(i) for i in rng.choice(config.video_llama.instructions, len(rows))]
        tokens = model.llama_proj(model(torch.from_numpy(visual[rows]).float()))
        return llm.caption_loss(instructions, tokens, [describe(scenes[r], rng) for r in rows])

    rate = config.connectors.learning_rate
    # The Q-Formers are already aligned; the projection starts from random weights.
    groups = [
        {"params": [*model.frame_tokens.parameters(), *model.video_q_former.parameters()], "lr": rate / 3},
        {"params": list(model.llama_proj.parameters()), "lr": rate * 10},
    ]
    return _optimise(
        config, "captioning", config.connectors.caption_epochs, config.connectors.caption_batch_size, len(scenes), model, groups, loss
    )


def _optimise(
    config: Config,
    name: str,
    epochs: int,
    size: int,
    n: int,
    model: Connectors,
    groups: list[dict[str, Any]],
    loss: Callable[[NDArray[np.int64]], Tensor],
) -> list[float]:
    """Run AdamW with a one-cycle schedule over shuffled batches of `size`; return the mean loss per epoch."""
    optimiser = torch.optim.AdamW(groups, weight_decay=0.05)
    parameters = [p for group in groups for p in group["params"]]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=epochs * (n // size), pct_start=0.1
    )
    rng = generator(config.seed, "connectors", name)
    model.train()
    means = []
    for epoch in range(epochs):
        batches = tqdm(list(_batches(rng.permutation(n), size)), f"{name} {epoch + 1}/{epochs}", mininterval=5)
        values = []
        for rows in batches:
            value = loss(rows)
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            values.append(value.item())
            batches.set_postfix(loss=f"{np.mean(values[-20:]):.3f}")
        means.append(round(float(np.mean(values)), 4))
    model.eval()
    return means


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))
