"""The settings that each step reads: declared in its program, passed to it, recorded, and looked up in a configuration.

A program states its settings as SETTINGS, dotted names with spaces between them; or, if they depend on a wildcard or a setting, as a table,
with the name of that as BY. Snakemake reruns a step when one of them changes, and the step gets these and no others (`Section`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.provenance.naming import ROOT
from boldscribe.sections.base import NAMES

ABSENT = "(no such key)"

Settings = str | Mapping[str, str]


@cache
def declared(step: str) -> tuple[Settings, str]:
    """Return SETTINGS and BY of a step's program, from its source: importing all programs would take Snakemake too long."""
    found: dict[str, Any] = {"SETTINGS": "", "BY": ""}
    for statement in ast.parse((ROOT / "workflow_scripts" / f"{step}.py").read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name) and name.id in found:
            found[name.id] = ast.literal_eval(statement.value)
    return found["SETTINGS"], found["BY"]


def keys_of(settings: Settings, by: str, config: Config, wildcards: Mapping[str, str]) -> list[str]:
    """Return the dotted names of the settings of a job.

    Args:
        settings, by: declared.
        config: the experiment.
        wildcards: of the job. `datasets.*.task` is a key of its data set (and of its folds), or of all data sets if it has none.
    """
    chosen = settings if isinstance(settings, str) else settings[wildcards[by] if by in wildcards else str(_found(config, by))]
    dataset = wildcards.get("dataset")
    names: dict[str, Iterable[str]] = {"datasets": config.datasets, "pretraining": config.pretraining}
    if dataset in config.datasets:
        names["datasets"] = [name for name in config.datasets if config.whole(name) == config.whole(dataset)]
    elif dataset:
        names["pretraining"] = [dataset]
    return [key.replace(".*.", f".{n}.") for key in chosen.split() for n in (names[key.partition(".")[0]] if ".*." in key else [""])]


def _found(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def slice_of(config: Config, step: str, wildcards: Mapping[str, str]) -> dict[str, Any]:
    """Return key → value of the settings of a step's job."""
    return look_up(config, keys_of(*declared(step), config, wildcards))


def look_up(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Return the value of each dotted key in a configuration, with paths in its results tree made relative; `ABSENT` for missing keys."""
    values = config.model_dump(mode="json", by_alias=True)
    return {key: _value(values, key.split("."), config.paths.results) for key in sorted(set(keys))}


def _value(values: Any, parts: list[str], results: str) -> Any:
    for part in parts:
        if part == NAMES:
            return sorted(values)
        if not isinstance(values, Mapping) or part not in values:
            return ABSENT
        values = values[part]
    return portable(values, results)


def portable(value: Any, results: str | Path) -> Any:
    """Write paths in the results tree as `[results]/…`, since the location of its results does not affect a run."""
    if isinstance(value, str):
        return "[results]" + value.removeprefix(str(results)) if f"{value}/".startswith(f"{results}/") else value
    if isinstance(value, Mapping):
        return {k: portable(v, results) for k, v in value.items()}
    return [portable(v, results) for v in value] if isinstance(value, list | tuple) else value
