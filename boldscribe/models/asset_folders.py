"""Sources of model weights: packages that ship them ('embedded'), or a user's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import check_locked_version
from boldscribe.models.embedded_models import unpack
from boldscribe.models.hub_folder import check_hub_folder
from boldscribe.models.sc_mbm import check_blocks
from boldscribe.models.weight_files import check_weights

# In the embedded default, BERTScore and identification share one encoder.
EMBEDDED_ASSET = {
    "llm": "llm",
    "visual_encoder": "visual_encoder",
    "sentence_encoder": "sentence_encoder",
    "bertscore_encoder": "sentence_encoder",
}


def source(config: Config, asset: str) -> str:
    """Return the configured origin of an asset: 'embedded' or a path.

    Raises:
        UserError: the asset is unknown, or none is configured.
    """
    origins: dict[str, Callable[[], str]] = {
        "llm": lambda: config.video_llama.llm,
        "visual_encoder": lambda: config.video_llama.visual_encoder,
        "connectors": lambda: config.video_llama.connectors,
        "sc_mbm": lambda: config.sc_mbm.checkpoint or "",
        "sentence_encoder": lambda: config.evaluation.sentence_encoder,
        "bertscore_encoder": lambda: config.evaluation.bertscore_model,
        "captioner": lambda: config.captioner.model or "",
    }
    if asset not in origins:
        raise UserError("--asset", f"found {asset!r}, expected one of {', '.join(origins)}")
    if not (origin := origins[asset]()):
        raise UserError("--asset", f"found {asset!r}, for which no weights are configured: its key is null")
    return origin


def provide(config: Config, asset: str, folder: Path, cache: ContentCache | None = None) -> list[Path]:
    """Provide an asset in `folder`: unpack it if embedded, else link to the configured file or the files of the configured folder.

    Returns:
        the files that the weights come from.

    Raises:
        UserError: the configured path is missing, or holds no safetensors (pickled weights are not read) or truncated ones. Also if
            the BERTScore encoder has too few layers, an fMRI encoder's sizes are not the configured ones, a captioner's folder is
            missing a file, or that folder or the asset lock states another revision.
    """
    origin = source(config, asset)
    if asset == "captioner":
        check_hub_folder(Path(origin), config.captioner.revision or "")
    sources = unpack(EMBEDDED_ASSET[asset], folder, cache) if origin == "embedded" else _link(Path(origin), asset, folder)
    if asset == "captioner":
        check_locked_version(sources, config.captioner.revision or "")
    if asset == "bertscore_encoder":
        _check_layers(folder, config.evaluation.bertscore_layer)
    if asset == "sc_mbm":
        check_blocks(Path(origin), config.sc_mbm)
    return sources


def _link(path: Path, asset: str, folder: Path) -> list[Path]:
    if not path.exists():
        raise UserError(
            str(path),
            f"the weights of {asset} are missing: expected {_expected(asset)} there; get them with `boldscribe fetch weights` "
            "(docs/fetching.md), put them in place, or change the key in the configuration ('boldscribe doctor' lists all of them)",
        )
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    if not any(p.suffix == ".safetensors" for p in files):
        raise UserError(
            str(path),
            f"found {', '.join(p.name for p in files[:5]) or 'no file'}, expected {_expected(asset)}; convert the "
            "weights first, since pickled files are not opened (`boldscribe convert`, docs/weights.md)",
        )
    for file in files:
        if file.suffix == ".safetensors":
            check_weights(file, f"copy the weights of {asset} again")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    return files


def _check_layers(folder: Path, layer: int) -> None:
    if (file := folder / "config.json").exists() and layer > (n := json.loads(file.read_text()).get("num_hidden_layers", layer)):
        raise UserError("evaluation.bertscore_layer", f"found {layer}, expected at most {n}, the layers of {folder}")


def _expected(asset: str) -> str:
    return "a .safetensors file" if asset in ("connectors", "sc_mbm") else "a folder with config.json and .safetensors files"
