"""Validation of language model folders, and conversion of pickled weights to safetensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Size, Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from boldscribe.machinery.errors import UserError
from boldscribe.models.conversion.shapes import some
from boldscribe.models.pickled_weights import read_checkpoint
from boldscribe.models.weight_files import shapes

CARRIED_OVER = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
SHARD = "2GB"  # held in memory at once
COMPUTED = "rotary_emb.inv_freq"  # saved by older versions of transformers
REMEDY = "copy the language model again"


def check_llm(folder: Path) -> int:
    """Check a LLaMA folder without loading it: configuration, tokenizer, and the name and shape of every tensor.

    Returns:
        the width of its token embeddings.

    Raises:
        UserError: the model is not a LLaMA, or is incomplete.
    """
    config = _config(folder)
    if not (folder / "tokenizer.json").exists():
        raise UserError(
            str(folder),
            "tokenizer.json is missing, and tokenizer.model cannot replace it; to write it, run "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in an environment with sentencepiece",
        )
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    found = {name: shape for file in weight_files(folder) for name, shape in _shapes(file).items() if not name.endswith(COMPUTED)}
    missing = expected.keys() - found.keys() - ({"lm_head.weight"} if config.tie_word_embeddings else set())
    unknown = found.keys() - expected.keys()
    wrong = [f"{name}: found {tuple(s)}, expected {tuple(expected[name])}" for name, s in found.items() if s != expected.get(name, s)]
    if missing or unknown or wrong:
        raise UserError(
            str(folder),
            f"weights do not fit config.json: missing {some(missing) or 'none'}; unknown {some(unknown) or 'none'}; "
            f"wrong shape {some(wrong) or 'none'}; {REMEDY}",
        )
    return int(config.hidden_size)


def provide_llm(folder: Path, out: Path) -> dict[str, str]:
    """Provide a checked language model as safetensors in `out`: link it if it is in that format, else convert it shard by shard.

    Returns:
        what was done with each file.
    """
    out.mkdir(parents=True)
    files = weight_files(folder)
    if files[0].suffix == ".safetensors":
        for file in [*files, *folder.glob("*.safetensors.index.json")]:
            (out / file.name).symlink_to(file.resolve())
        done = {file.name: "linked" for file in files}
    else:
        state: dict[str, Tensor] = {}
        for file in files:
            state |= {name: t for name, t in read_checkpoint(file).tensors.items() if not name.endswith(COMPUTED)}
        save_torch_state_dict(state, out, max_shard_size=SHARD)
        done = {file.name: "converted to safetensors" for file in files}
    for name in CARRIED_OVER:
        if (folder / name).exists():
            shutil.copyfile(folder / name, out / name)
            done[name] = "copied"
    return done


def weight_files(folder: Path) -> list[Path]:
    """List the weight files of a folder: safetensors if there are any, else pickled shards.

    Raises:
        UserError: there are none, or one that the index names is missing.
    """
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(str(folder), "found no weights, expected model*.safetensors or pytorch_model*.bin")
    index = folder / ("model.safetensors.index.json" if files[0].suffix == ".safetensors" else "pytorch_model.bin.index.json")
    if index.exists() and (absent := set(json.loads(index.read_text())["weight_map"].values()) - {file.name for file in files}):
        raise UserError(str(folder), f"missing {some(absent)}, listed in {index.name}; {REMEDY}")
    return files


def _shapes(file: Path) -> dict[str, Size]:
    if file.suffix == ".safetensors":
        return shapes(file, REMEDY)
    return {name: tensor.shape for name, tensor in read_checkpoint(file).tensors.items()}


def _config(folder: Path) -> LlamaConfig:
    if not (folder / "config.json").exists():
        raise UserError(str(folder), "config.json is missing: expected a LLaMA folder in the transformers format")
    try:
        content = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise UserError(str(folder / "config.json"), f"not JSON: {error}; {REMEDY}") from None
    if (found := content.get("architectures")) != ["LlamaForCausalLM"]:
        raise UserError(str(folder / "config.json"), f"architectures: found {found}, expected ['LlamaForCausalLM']")
    return LlamaConfig.from_pretrained(folder)
