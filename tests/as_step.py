"""A configuration as a step gets it: with the settings that its program declares, and no others."""

import ast

from boldscribe.config import Config
from boldscribe.machinery.section import restricted
from boldscribe.machinery.steps.slices import declared, keys_of
from tests.conftest import ROOT


def as_step(config: Config, step: str, **wildcards: str) -> Config:
    return restricted(config, [*keys_of(*declared(step), config, wildcards), *whereabouts(step)])


def whereabouts(step: str) -> tuple[str, ...]:
    """Settings that a step gets as well, and that no result depends on."""
    for statement in ast.parse((ROOT / "workflow_scripts" / f"{step}.py").read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name) and name.id == "WHEREABOUTS":
            return tuple(str(ast.literal_eval(statement.value)).split())
    return ()
