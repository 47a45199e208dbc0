"""The settings that each step reads: declared in its program, passed to it, recorded, and looked up in a configuration.

A program states its settings as SETTINGS, dotted names with spaces between them; or, if they depend on a wildcard or a setting, as a table,
with the name of that as BY. Snakemake reruns a step when one of them changes, and the step gets these and no others (`Section`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from typing import Any

from boldscribe.machinery.configuration import Experiment, look_up
from boldscribe.machinery.files import ROOT

Settings = str | Mapping[str, str]


@cache
def declared(step: str) -> tuple[Settings, str]:
    """Return SETTINGS and BY of a step's program, from its source: importing all programs would take Snakemake too long."""
    found: dict[str, Any] = {"SETTINGS": "", "BY": ""}
    for statement in ast.parse((ROOT / "workflow_scripts" / f"{step}.py").read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name) and name.id in found:
            found[name.id] = ast.literal_eval(statement.value)
    return found["SETTINGS"], found["BY"]


def keys_of(settings: Settings, by: str, config: Experiment, wildcards: Mapping[str, str]) -> list[str]:
    """Return the dotted names of the settings of a job.

    Args:
        settings, by: declared.
        config: the experiment.
        wildcards: of the job. `datasets.*.task` is a key of its data set (and of its folds), or of all data sets if it has none.
    """
    chosen = settings if isinstance(settings, str) else settings[wildcards[by] if by in wildcards else str(_found(config, by))]
    dataset = wildcards.get("dataset")
    named = {key: config.names_of(key.partition(".")[0], dataset) if ".*." in key else [""] for key in chosen.split()}
    return [key.replace(".*.", f".{name}.") for key, names in named.items() for name in names]


def _found(config: Experiment, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def slice_of(config: Experiment, step: str, wildcards: Mapping[str, str]) -> dict[str, Any]:
    """Return key → value of the settings of a step's job."""
    return look_up(config, keys_of(*declared(step), config, wildcards))
