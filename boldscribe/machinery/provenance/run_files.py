"""The run that a results tree belongs to: its configuration, as merged when it started and as its files are now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boldscribe.machinery.configuration import Experiment, merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, write_json
from boldscribe.machinery.provenance.naming import name_of, path_of
from boldscribe.machinery.registry import the_workflow

OWN_FILES = ("config.yaml", "run.json", "jobs.json")  # in the results tree, written when a run starts


def write_run(config: Experiment, configfiles: Sequence[str | Path], changes: Mapping[str, Any]) -> None:
    """Write `config.yaml`, which every step reads, and `run.json`, which states its sources.

    Args:
        config: the merged configuration.
        configfiles: the files it was merged from; later ones override earlier ones.
        changes: keys given on the command line.
    """
    results = config.paths.results
    config.write(Path(results) / "config.yaml")
    sources = list(dict.fromkeys(name_of(file, ROOT / "results") for file in configfiles))
    write_json(Path(results) / "run.json", {"configfiles": sources, "config": dict(changes)})


def current_config(results: str | Path) -> Experiment:
    """Return the configuration of a results tree from its current files, which may have changed since its run started.

    Raises:
        UserError: no run was started there, or a configuration file is missing or wrong.
    """
    try:
        run = json.loads((Path(results) / "run.json").read_text())
    except (OSError, ValueError):
        raise UserError(str(results), "found no run.json, expected the results folder of a run; name its root") from None
    files = [path_of(name, results) for name in run["configfiles"]]
    config = the_workflow().experiment.load(*files)
    raw = merge(config.model_dump(mode="json", by_alias=True), run["config"])
    return type(config).parse(raw, " + ".join([*map(str, files), "--config"]))


def results_of(path: str | Path) -> Path:
    """Return the results tree of a file or folder: the nearest folder above it (or itself) with a `run.json`.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    for folder in (path, *path.absolute().parents):
        if (folder / "run.json").is_file():
            return folder
    raise UserError(str(path), "is not in a results tree: found no run.json in the folders above it; name a file or folder of a run")
