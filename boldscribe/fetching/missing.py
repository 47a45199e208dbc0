"""Missing inputs of an experiment, each with the command that downloads it; uses no network."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.fetching.datasets import select
from boldscribe.fetching.template_files import templateflow_home, templates
from boldscribe.fetching.weights import configured_weights
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.offline import asset_of, is_offline

BASELINE = "evaluation.bertscore_baseline"
SHOWN = 6


@dataclass(frozen=True)
class Missing:
    """One missing input.

    Attributes:
        kind: `data`, `weights`, `templates` or `containers`.
        asset: its name in the workflow: a data set, or a folder in `models/`.
        key: configuration key.
        found: what is there instead.
        remedy: what to do, with the command.
    """

    kind: str
    asset: str
    key: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}; {self.remedy}"


def missing(config: Config, options: str = "") -> list[Missing]:
    """Find missing inputs by presence and size; digests are checked where files are fetched and read.

    Args:
        config: the experiment.
        options: added to commands, such as `--config FILE`.

    Raises:
        UserError: a manifest or table cannot be read.
    """
    return [*_data(config, options), *_weights(config, options), *_preprocessing(config, options)]


def config_options(configs: Sequence[Path]) -> str:
    """Return the options that make a command read these configuration files; empty for only the checkout's own."""
    if [path.absolute() for path in configs] == [ROOT / "config.yaml"]:
        return ""
    return "".join(f" --config {shlex.quote(str(path))}" for path in configs)


def advise(host: str, configs: Sequence[Path], models: Sequence[str]) -> str:
    """Advise on an attempt to reach a host: list the missing inputs that the host may provide.

    Args:
        host: its name or address.
        configs: configuration files of the step.
        models: names of the model folders that the step reads; if any of them are missing, only those are listed.
    """
    kind, options = asset_of(host), config_options(configs)
    found = [m for m in missing(Config.load(*configs), options) if kind in (None, m.kind)]
    found = [m for m in found if m.kind == "weights" and m.asset in models] or found
    if not found:
        command = f"boldscribe fetch {kind if kind not in (None, 'data') else 'all'}{options}"
        return (
            "everything in the configuration is on this machine, so a program or library requests something else; if that is an asset, "
            f"run `{command}` on a login node (docs/fetching.md)"
        )
    more = f"; and {len(found) - SHOWN} more: `boldscribe fetch missing{options}`" if len(found) > SHOWN else ""
    return "not on this machine: " + "; ".join(map(str, found[:SHOWN])) + more


def check_assets(config: Config, jobs: Iterable[tuple[str, Mapping[str, str]]], options: str) -> None:
    """Check that the external inputs of jobs exist, before anything runs or is queued.

    Data that a job of the run fetches may be missing.

    Args:
        config: the experiment.
        jobs: rule and wildcards of each job of the run.
        options: added to commands.

    Raises:
        UserError: inputs are missing; the message lists all of them, each with its command.
    """
    of_rule: dict[str, set[str]] = {}
    for rule, wildcards in jobs:
        of_rule.setdefault(rule, set()).add(wildcards.get("asset" if rule == "fetch_model" else "dataset", ""))
    models, datasets = of_rule.get("fetch_model", set()), of_rule.get("fetch_dataset", set()) | of_rule.get("fetch_pretraining", set())

    def is_needed(one: Missing) -> bool:
        if one.kind == "data":
            return one.asset in datasets and (is_offline() or one.key != f"datasets.{one.asset}")
        if one.key == BASELINE:
            return "scores" in of_rule
        return one.asset in models if one.kind == "weights" else "check_preprocessing" in of_rule

    if needed := [one for one in missing(config, options) if is_needed(one)]:
        raise UserError("not on this machine, and needed by this run", *map(str, needed), "nothing was started")


def _data(config: Config, options: str) -> list[Missing]:
    found = []
    for name in config.whole_datasets:
        dataset = config.datasets[name]
        key = f"datasets.{name}"
        if dataset.simulated:
            continue
        if dataset.manifest:
            selection = select(config, name)
            sizes = [_size(selection.folder / entry.path) for entry in selection.entries]
            if absent := sum(size != entry.size for size, entry in zip(sizes, selection.entries, strict=True)):
                text = f"{absent:,} of {len(selection.entries):,} files missing in {selection.folder}"
                found.append(Missing("data", name, key, text, _command(f"data {name}", options)))
            if not any(entry.part == "stimuli" for entry in selection.manifest.files) and not _is_there(dataset.videos):
                text, remedy = f"no videos in {dataset.videos}", "put them there, since its manifest has none (docs/fetching.md)"
                found.append(Missing("data", name, f"{key}.stimuli_dir", text, remedy))
        elif not (Path(dataset.bids_dir) / "dataset_description.json").is_file():
            text = f"no data set in {dataset.bids_dir or 'null'}"
            found.append(Missing("data", name, f"{key}.bids_dir", text, "provide it, since it has no manifest"))
        if (
            config.preprocessing.reads_derivatives
            and not dataset.fetches(dataset.derivatives_dir)
            and not _is_there(dataset.derivatives_dir)
        ):
            text = f"no folder {dataset.derivatives_dir}"
            found.append(Missing("data", name, f"{key}.derivatives_dir", text, "provide it (docs/fetching.md)"))
    for name, extra in config.pretraining.items():
        if not _is_there(extra.derivatives_dir):
            text = f"no folder {extra.derivatives_dir}"
            found.append(Missing("data", name, f"pretraining.{name}.derivatives_dir", text, "provide it (docs/pretraining.md)"))
    return found


def _weights(config: Config, options: str) -> list[Missing]:
    fetched = {row.asset: row for row in configured_weights(config)}
    found = []
    for key, (asset, place) in config.model_places.items():
        if place in (None, "embedded") or _is_there(place):
            continue
        row = fetched.get(asset)
        remedy = "convert the published checkpoint (docs/weights.md), or put your own there"
        if key == BASELINE:
            remedy = "copy it from the package bert_score, or set it to null"
        elif row is not None:
            remedy = _command(f"weights --asset {asset}", options, row.repo)
        elif asset == "llm" and (source := fetched.get("video_llama_source")) is not None and not _is_there(source.folder):
            remedy = f"{_command('weights --asset video_llama_source', options, source.repo)}, then `boldscribe convert` (docs/weights.md)"
        found.append(Missing("weights", asset, key, f"no {place}", remedy))
    return found


def _preprocessing(config: Config, options: str) -> list[Missing]:
    settings, found = config.preprocessing, []
    if settings.runs_fmriprep and settings.templateflow_home:
        folder = templateflow_home(config)
        if absent := sum(_size(folder / entry.path) != entry.size for entry in templates()):
            key = "preprocessing.templateflow_home"
            found.append(Missing("templates", "templates", key, f"{absent} files missing in {folder}", _command("templates", options)))
    if settings.engine == "apptainer" and not _is_there(settings.fmriprep_sif):
        text = f"no image {settings.fmriprep_sif}"
        found.append(Missing("containers", "container", "preprocessing.fmriprep_sif", text, _command("containers", options)))
    return found


def _command(arguments: str, options: str, origin: str = "") -> str:
    return f"run `boldscribe fetch {arguments}{options}` on a login node" + (f" ({origin})" if origin else "")


def _is_there(place: str | Path | None) -> bool:
    """Return whether a path is a file or a folder that is not empty."""
    path = Path(place or "")
    return bool(place) and (path.is_file() or (path.is_dir() and any(path.iterdir())))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
