"""Conversion of the fMRI encoders of MinD-Vis (SC-MBM) and MinD-Video to the blocks and norm of `boldscribe.models.sc_mbm.ScMbm`.

Based on `code/sc_mbm/mae_for_fmri.py` of zjc062/mind-vis and `src/MindVideo/models/fmri_encoder.py` of jqin4749/MindVideo. Their blocks
are timm's or equivalent: pre-norm, LayerNorm with eps 1e-5, exact GELU. timm 0.5.4, which they name, and later versions use the same
tensor names in a block. Optional additions of later versions (LayerScale, norms of query and key) would change the result and are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Size, Tensor

from boldscribe.config.model_settings import ScMbmSettings
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic_folder, sha256_of, write_json
from boldscribe.models.conversion.names import family
from boldscribe.models.conversion.shapes import Source, check_shapes, some
from boldscribe.models.pickled_weights import Checkpoint, TrainingConfig, read_checkpoint
from boldscribe.models.sc_mbm import ScMbm, size_problems

RENAMES = (
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.mlp\.fc1\.", ".mlp.expand."),
    (r"\.mlp\.fc2\.", ".mlp.contract."),
)
NOT_USED = (
    (r"^(patch_embed\.|pos_embed$|cls_token$)", "input of a list of visual-cortex voxels: the 3-D CNN tokenizer takes its place"),
    (r"^(decoder_|mask_token$)", "decoder of the masked autoencoder, which is of use in pretraining alone"),
    (r"^nature_img_", "image decoder of an optional pretraining loss"),
    (r"^blocks\.\d+\.(attn|norm)_temp\.", "MinD-Video's attention between volumes, which are the tokenizer's channels here"),
    (r"^(proj_head\.|logit_scale$)", "MinD-Video's projection to the space of CLIP"),
)


def convert_sc_mbm(path: Path, config: ScMbmSettings, out: Path) -> dict[str, Any]:
    """Convert an encoder and write both files or none.

    Args:
        path: `fmri_encoder.pth` of MinD-Vis, or `model.pth` or `diffusion_pytorch_model.bin` of MinD-Video's fmri_encoder folder.
        config: the configured encoder, whose sizes the file must have.
        out: new folder for sc_mbm.safetensors and sc_mbm.json.

    Returns:
        the report written to sc_mbm.json.

    Raises:
        UserError: the file is missing, damaged, of another family or size, or has unknown tensors.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(str(out), "already exists; remove it, or choose another folder with --out")
    checkpoint = read_checkpoint(path)
    if (embedding := checkpoint.tensors.get("patch_embed.proj.weight")) is None or embedding.ndim != 3:
        raise UserError(
            str(path),
            f"found {family(checkpoint.tensors)} ({some(checkpoint.tensors)}), expected the fMRI encoder of MinD-Vis or MinD-Video",
        )
    sources, not_used = _sorted_out(checkpoint)
    _check_sizes(sources, config, path)
    expected = expected_shapes(config)
    if missing := expected.keys() - sources.keys():
        raise UserError(str(path), f"missing {some(missing)}; expected a complete encoder")
    check_shapes(expected, sources)
    report = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "used": {source.key: f"sc_mbm.{name}" for name, source in sources.items()},
        "not_used": not_used,
        "n_heads": _heads(checkpoint, config),
        "beside_the_tensors": sorted(map(str, checkpoint.beside)),
    }
    with atomic_folder(out) as part:
        save_file(encoder_state({name: source.tensor for name, source in sources.items()}), part / "sc_mbm.safetensors")
        write_json(part / "sc_mbm.json", report)
    return report


def expected_shapes(config: ScMbmSettings) -> dict[str, Size]:
    """Shape of every tensor of the encoder by our names, with query, key and value combined as published."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in ScMbm(config).state_dict().items()}
    for name in [name for name in shapes if ".query." in name]:
        query, _, _ = (shapes.pop(name.replace("query", part)) for part in ("query", "key", "value"))
        shapes[name.replace("query", "qkv")] = Size([3 * query[0], *query[1:]])
    return shapes


def encoder_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the file's tensors to those of `ScMbm`, prefixed `sc_mbm.`, with query, key and value separated."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".qkv." in name:
            state |= {name.replace("qkv", part): third for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True)}
        else:
            state[name] = tensor
    return {f"sc_mbm.{name}": tensor.float().contiguous() for name, tensor in state.items()}


def _sorted_out(checkpoint: Checkpoint) -> tuple[dict[str, Source], dict[str, list[str]]]:
    """Return the sources by our names, and the unused tensors by reason."""
    sources, not_used, unknown = {}, dict[str, list[str]](), []
    for key, tensor in checkpoint.tensors.items():
        if reason := next((reason for pattern, reason in NOT_USED if re.search(pattern, key)), None):
            not_used.setdefault(reason, []).append(key)
        elif re.fullmatch(r"(blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])|norm)\.(weight|bias)", key):
            name = key
            for pattern, replacement in RENAMES:
                name = re.sub(pattern, replacement, name)
            sources[name] = Source(checkpoint.path, key, tensor)
        else:
            unknown.append(key)
    if unknown:
        raise UserError(
            str(checkpoint.path),
            f"found {some(unknown)}, which the encoders of MinD-Vis and MinD-Video do not have: dropping them may change what "
            "the blocks compute; expected the published names, unchanged",
        )
    return sources, not_used


def _check_sizes(sources: dict[str, Source], config: ScMbmSettings, path: Path) -> None:
    if "norm.weight" not in sources or "blocks.0.mlp.expand.weight" not in sources:
        raise UserError(str(path), "missing norm.weight or blocks.0.mlp.fc1.weight; expected a complete encoder")
    if problems := size_problems({name: source.tensor.shape for name, source in sources.items()}, config):
        raise UserError(str(path), *problems)


def _heads(checkpoint: Checkpoint, config: ScMbmSettings) -> dict[str, Any]:
    """Report the number of heads, checked against the file's configuration if it states one; shapes do not reveal it."""
    stated = vars(checkpoint.beside["config"]).get("num_heads") if isinstance(checkpoint.beside.get("config"), TrainingConfig) else None
    if stated not in (None, config.n_heads):
        raise UserError(
            str(checkpoint.path),
            f"sc_mbm.n_heads: found {stated} in the file's config, configured {config.n_heads}; set sc_mbm.n_heads: {stated}",
        )
    note = "confirmed by the file's config" if stated else "not confirmed: neither the shapes nor the file state it"
    return {"configured": config.n_heads, "note": note}
