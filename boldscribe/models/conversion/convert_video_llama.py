"""Conversion of Video-LLaMA's weights, in one or several files, to `visual_encoder/`, `connectors.safetensors` and `llm/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Size, Tensor
from transformers import Blip2VisionConfig, Blip2VisionModel

from boldscribe.config.model_settings import VideoLlamaSettings
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic_folder, sha256_of, write_json
from boldscribe.models.conversion.llm import check_llm, provide_llm, weight_files
from boldscribe.models.conversion.names import family, reason_not_needed, target
from boldscribe.models.conversion.shapes import Source, check_shapes, some
from boldscribe.models.pickled_weights import Checkpoint, read_checkpoint
from boldscribe.models.video_llama import Connectors

VISUAL, NORM = "visual_encoder.", "visual_encoder.post_layernorm."
# For each option: the pattern of a key that its file must have, and the names of such files.
ROLES = {
    "--checkpoint": (r"^video_Qformer\.bert\.encoder\.", "VL_LLaMA_2_7B_Finetuned.pth or finetune-vicuna7b-v2.pth"),
    "--blip2": (r"^Qformer\.bert\.encoder\.", "blip2_pretrained_flant5xxl.pth"),
    "--eva": (r"^visual_encoder\.blocks\.\d+\.attn\.q_bias$", "eva_vit_g.pth"),
}
SIZES = {4096: "7B", 5120: "13B"}  # widths of LLaMA's token embeddings


@dataclass
class Fate:
    """Use of the tensors of a file."""

    used: dict[str, str] = field(default_factory=dict)  # our name by published name
    given_up: dict[str, str] = field(default_factory=dict)  # file whose equal tensor is used instead
    not_needed: dict[str, list[str]] = field(default_factory=dict)  # names by reason


def convert_video_llama(
    checkpoint: Path,
    llm: Path,
    out: Path,
    *,
    blip2: Path | None = None,
    eva: Path | None = None,
    config: VideoLlamaSettings | None = None,
    vision: Blip2VisionConfig | None = None,
) -> dict[str, Any]:
    """Convert the weights and write all of them or nothing.

    Args:
        checkpoint: vision branch of Video-LLaMA: its trained parts, or all of it.
        llm: folder of the language model that it was trained with.
        out: new folder for visual_encoder/, connectors.safetensors, llm/ and conversion.json.
        blip2: Q-Former and `ln_vision`, if `checkpoint` has none.
        eva: visual encoder, if `checkpoint` has none.
        config: widths of the Q-Formers; Video-LLaMA's by default.
        vision: sizes of the visual encoder; EVA-CLIP g/14 up to its 39th block by default.

    Returns:
        the report written to conversion.json.

    Raises:
        UserError: a file is missing, damaged, of another family or size, or has unknown tensors; or no file has an expected tensor.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(str(out), "already exists; remove it, or choose another folder with --out")
    vision = vision or Blip2VisionConfig()
    width = check_llm(llm)
    given = {"--checkpoint": checkpoint, "--blip2": blip2, "--eva": eva}
    checkpoints = [read_part(option, path) for option, path in given.items() if path is not None]
    expected = expected_shapes(config or VideoLlamaSettings(), vision, width)
    sources, fates = assemble(checkpoints, expected, vision.num_hidden_layers)
    _check_llm_size(sources["llama_proj.weight"], width, llm)
    check_shapes(expected, sources)
    with atomic_folder(out) as part:
        (part / "visual_encoder").mkdir()
        vision.to_json_file(part / "visual_encoder" / "config.json", use_diff=False)
        save_file(visual_state(sources), part / "visual_encoder" / "model.safetensors")
        connectors = {name: s.tensor.contiguous() for name, s in sources.items() if not name.startswith(VISUAL)}
        save_file(connectors, part / "connectors.safetensors")
        report = {
            "sources": [_described(c, fate) for c, fate in zip(checkpoints, fates, strict=True)],
            "set_to_zero": {"visual_encoder": "the middle third of each qkv.bias: EVA-CLIP's keys have no bias"},
            "rounded": {"visual_encoder": "to float16, as in Video-LLaMA, except post_layernorm"},
            "llm": {
                "folder": str(llm),
                "sha256": {f.name: sha256_of(f) for f in weight_files(llm)},
                "files": provide_llm(llm, part / "llm"),
            },
        }
        write_json(part / "conversion.json", report)
    return report


def read_part(option: str, path: Path) -> Checkpoint:
    """Open a file and check that it is of the kind that its option expects.

    Raises:
        UserError: as `read_checkpoint`; or the file is of another family.
    """
    checkpoint = read_checkpoint(path)
    if option == "--eva" and not any(key.startswith(VISUAL) for key in checkpoint.tensors):
        checkpoint = Checkpoint(path, {VISUAL + key: t for key, t in checkpoint.tensors.items()}, checkpoint.beside)
    marker, files = ROLES[option]
    if not any(re.search(marker, key) for key in checkpoint.tensors):
        keys = [key.removeprefix(VISUAL) for key in checkpoint.tensors]
        raise UserError(str(path), f"{option}: found {family(keys)} ({some(keys)}), expected {files}")
    return checkpoint


def expected_shapes(config: VideoLlamaSettings, vision: Blip2VisionConfig, llm_width: int) -> dict[str, Size]:
    """Shape of every tensor to fill; `qkv.bias` is split into `qkv.bias[q]` and `qkv.bias[v]`, its first and last third."""
    with torch.device("meta"):
        modules = {VISUAL: Blip2VisionModel(vision), "": Connectors(config, vision.hidden_size, llm_width)}
    shapes = {prefix + name: t.shape for prefix, module in modules.items() for name, t in module.state_dict().items()}
    for name in [name for name in shapes if name.endswith(".qkv.bias")]:
        third = shapes.pop(name)[0] // 3
        shapes |= {f"{name}[q]": Size([third]), f"{name}[v]": Size([third])}
    return shapes


def assemble(checkpoints: Sequence[Checkpoint], expected: dict[str, Size], depth: int) -> tuple[dict[str, Source], list[Fate]]:
    """Find the source of every expected tensor; if several files have it, the first one's is used.

    Raises:
        UserError: a file has tensors that are neither used nor listed as unneeded, or no file has an expected tensor.
    """
    sources: dict[str, Source] = {}
    fates = []
    for checkpoint in checkpoints:
        fate, unknown = Fate(), []
        for key, tensor in checkpoint.tensors.items():
            name = target(key)
            if name in sources:
                fate.given_up[key] = str(sources[name].file)
            elif name in expected:
                sources[name] = Source(checkpoint.path, key, tensor)
                fate.used[key] = name
            elif reason := reason_not_needed(key, depth):
                fate.not_needed.setdefault(reason, []).append(key)
            else:
                unknown.append(key)
        if unknown:
            raise UserError(
                str(checkpoint.path),
                f"found {some(unknown)}, which no known part of Video-LLaMA has; expected the published names, unchanged",
            )
        fates.append(fate)
    if missing := expected.keys() - sources.keys():
        raise UserError("missing weights", *_whereabouts(missing))
    return sources, fates


def visual_state(sources: dict[str, Source]) -> dict[str, Tensor]:
    """Tensors of the visual encoder by transformers' names, in float16; the final norm, which ran in float32, is unchanged."""
    state = {
        n.removeprefix(VISUAL): s.tensor if n.startswith(NORM) else s.tensor.half() for n, s in sources.items() if n.startswith(VISUAL)
    }
    for name in [name for name in state if name.endswith(".qkv.bias[q]")]:
        query, value = state.pop(name), state.pop(name.replace("[q]", "[v]"))
        state[name.removesuffix("[q]")] = torch.cat([query, torch.zeros_like(query), value])
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _whereabouts(missing: set[str]) -> list[str]:
    """Describe the missing tensors, grouped by the option whose file has them."""
    groups: dict[str, list[str]] = {}
    for name in missing:
        blip2 = name.startswith((NORM, "frame_tokens.image_q_former."))
        groups.setdefault("--blip2" if blip2 else "--eva" if name.startswith(VISUAL) else "--checkpoint", []).append(name)
    return [
        f"{len(names)} tensors ({some(names)}), contained in {ROLES[option][1]}; provide it with {option}"
        for option, names in sorted(groups.items())
    ]


def _check_llm_size(projection: Source, width: int, llm: Path) -> None:
    if (found := projection.tensor.shape[0]) != width:
        part, model = (f"a {SIZES[n]} language model" if n in SIZES else f"a language model of width {n}" for n in (found, width))
        raise UserError(
            str(projection.file),
            f"{projection.key}: found {tuple(projection.tensor.shape)}, expected {(width, projection.tensor.shape[1])}: the file was "
            f"made for {part}, but {llm} is {model}; use a checkpoint and a language model of the same size",
        )


def _described(checkpoint: Checkpoint, fate: Fate) -> dict[str, Any]:
    return {
        "file": str(checkpoint.path),
        "bytes": checkpoint.path.stat().st_size,
        "sha256": sha256_of(checkpoint.path),
        "used": fate.used,
        "given_up_for_the_equal_tensor_of": fate.given_up,
        "not_needed": fate.not_needed,
        "beside_the_tensors": sorted(map(str, checkpoint.beside)),
    }
