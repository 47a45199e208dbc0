"""Configuration of an experiment, as far as everything but the method needs it: where results are, and how files are read and merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.machinery.section import NAMES, Section, key

ABSENT = "(no such key)"


class Paths(Section):
    """Folders of the results and the cache."""

    results: str = key("results", "folder of all results", "ours")
    cache: str | None = key(
        "results/cache",
        "cache of frames and the unpacked LLM, keyed by the content of their inputs and shared by all experiments; null for none",
        "ours",
    )


class Experiment(Section):
    """Configuration of an experiment; a workflow's own class adds sections (`boldscribe.config.Config`)."""

    seed: int = key(42, "seed of everything random", "Video-LLaMA", ge=0)
    paths: Paths = Field(default_factory=Paths)

    @property
    def whole_datasets(self) -> list[str]:
        """Names of the data sets that have their own files and table: all except folds."""
        raise NotImplementedError

    def whole(self, dataset: str) -> str:
        """Return the data set of a fold, or the name itself for any other."""
        raise NotImplementedError

    def names_of(self, section: str, dataset: str | None) -> list[str]:
        """Return the names for which the setting `SECTION.*.KEY` of a job stands.

        Args:
            section: of named entries, such as `datasets`.
            dataset: of the job; None for jobs that belong to none.
        """
        raise NotImplementedError

    @classmethod
    def parse(cls, raw: dict[str, Any], origin: str = "config") -> Self:
        """Validate a merged configuration.

        Args:
            raw: nested mapping, as read from YAML or passed by Snakemake.
            origin: name of the file, for messages.

        Raises:
            UserError: an unknown key, a wrong type or value; the message names file, key, what was found and what is expected.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            problems = []
            for e in error.errors():
                where = ".".join(str(part) for part in e["loc"]) or "(top level)"
                if e["type"] == "extra_forbidden":
                    problems.append(f"{where}: unknown key; check its spelling against `boldscribe config`")
                else:
                    problems.append(f"{where}: found {e['input']!r}; {e['msg']}")
            raise UserError(origin, *problems) from None

    @classmethod
    def load(cls, *files: str | Path) -> Self:
        """Read one or more YAML files, with later ones overriding earlier ones, and validate the result.

        Raises:
            UserError: a file is missing, its YAML does not parse, or `parse` rejects its content.
        """
        merged: dict[str, Any] = {}
        for file in files:
            try:
                content = yaml.safe_load(Path(file).read_text()) or {}
            except FileNotFoundError:
                raise UserError(str(file), "the configuration file does not exist") from None
            except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
                raise UserError(str(file), f"not YAML: {error}") from None
            if not isinstance(content, dict):
                raise UserError(str(file), f"found a {type(content).__name__}, expected sections with keys, as in config.yaml")
            merged = merge(merged, content)
        return cls.parse(merged, " + ".join(str(f) for f in files))

    def write(self, path: str | Path) -> None:
        """Write the configuration with all its values as YAML without comments; steps that are run by hand read it too."""
        with atomic(path) as part:
            part.write_text(yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings as Snakemake merges its configfiles; lists are replaced."""
    out = dict(base)
    for k, v in over.items():
        out[k] = merge(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def look_up(config: Experiment, keys: Iterable[str]) -> dict[str, Any]:
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
    return _portable(values, results)


def _portable(value: Any, results: str | Path) -> Any:
    """Write paths in the results tree as `[results]/…`, since the location of its results does not affect a run."""
    if isinstance(value, str):
        return "[results]" + value.removeprefix(str(results)) if f"{value}/".startswith(f"{results}/") else value
    if isinstance(value, Mapping):
        return {k: _portable(v, results) for k, v in value.items()}
    return [_portable(v, results) for v in value] if isinstance(value, list | tuple) else value
