"""Generation of `config.yaml` and `schemas/config.schema.json` from the typed configuration, with a comment and source per key."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.machinery.section import Section

HEADER = """\
# The paper's experiment. Made from boldscribe/config/ by `boldscribe config --write`; a test fails when the two differ.
# Change values here, or in a file of your own given with --configfile, which is merged over this one.
#
# Sources in brackets: "paper x.y" is a section of Zheng & Sun 2024; "ours" is our own choice; all others
# are sections of docs/survey.md, which says what package, paper or measurement the value rests on.
"""


def config_yaml(config: Config | None = None) -> str:
    """Return the configuration as YAML, each key under a comment with its meaning and source."""
    return HEADER + "".join(f"\n{block}" for block in _section_lines(config or Config(), ""))


def _section_lines(section: Section, indent: str) -> list[str]:
    """Return one text block per key; the block of a nested section contains its keys, indented."""
    blocks = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        label = field.alias or name
        if isinstance(value, Section):
            doc = (type(value).__doc__ or "").strip().splitlines()[0]
            blocks.append(f"{indent}# {doc}\n{indent}{label}:\n" + "".join(_section_lines(value, indent + "  ")))
        elif isinstance(value, dict):
            inner = "".join(f"{indent}  {key}:\n" + "".join(_section_lines(item, indent + "    ")) for key, item in value.items())
            blocks.append(f"{indent}# {field.description}\n{indent}{label}:" + (f"\n{inner}" if inner else " {}\n"))
        else:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            blocks.append(_comment(f"{field.description} [{extra['source']}]", indent) + f"{indent}{label}: {_scalar(value)}\n")
    return blocks


def _comment(text: str, indent: str) -> str:
    return "".join(f"{indent}# {line}\n" for line in textwrap.wrap(text, 116 - len(indent)))


def _scalar(value: Any) -> str:
    """Format a value as JSON, which is valid YAML and quotes labels such as "08" that some YAML readers take for numbers."""
    return json.dumps(value, ensure_ascii=False)


def config_schema() -> str:
    """Return the JSON Schema of the configuration, for editors and for validation outside Python."""
    return json.dumps(Config.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"


def generated_files(root: Path) -> dict[Path, str]:
    """Return the files generated from the typed configuration, with the content that they should have."""
    return {root / "config.yaml": config_yaml(), root / "schemas" / "config.schema.json": config_schema()}
