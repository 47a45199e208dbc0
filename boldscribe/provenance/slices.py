"""Settings that each step reads: declared in `rules/settings.yaml`, observed in records, looked up in a configuration.

Snakemake must know before a step runs what it will read, so that a changed key reruns exactly the steps that read it. A test checks the
declaration against the records of a run (`boldscribe config --slices RESULTS` regenerates it from them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from boldscribe.config import Config
from boldscribe.provenance.naming import ROOT

DECLARATION = ROOT / "rules" / "settings.yaml"
ABSENT = "(no such key)"


@cache
def declared_slices() -> dict[str, dict[str, list[str]]]:
    """Return step → `reads` (the keys that its program reads) and `other_engines` (those it reads with other engines than the demo's).

    `datasets.*.task` is a key of the rule's own data set, or of all data sets if the rule has none.
    """
    declared: dict[str, dict[str, list[str]]] = yaml.safe_load(DECLARATION.read_text())
    return declared


def declared_slice(config: Config, step: str, dataset: str | None = None) -> dict[str, Any]:
    """Return key → value of the settings that a step's job reads.

    Args:
        config: the experiment.
        step: name of the rule, or `RULE/ASSET`.
        dataset: the job's data set, if it has one.
    """
    declared = declared_slices()[step]
    more = declared.get("other_engines", []) if config.preprocessing.engine != "embedded" else []
    keys = [
        key.replace(".*.", f".{name}.") if ".*." in key else key
        for key in [*declared["reads"], *more]
        for name in ([dataset] if dataset else config.datasets if ".*." in key else [""])
    ]
    return look_up(config, keys)


def look_up(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Return the value of each dotted key in a configuration, with paths in its results tree made relative; `ABSENT` for missing keys."""
    values = config.model_dump(mode="json", by_alias=True)
    return {key: _value(values, key.split("."), config.paths.results) for key in sorted(set(keys))}


def _value(values: Any, parts: list[str], results: str) -> Any:
    for part in parts:
        if part == "(names)":
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


def without_parts(keys: Iterable[str]) -> list[str]:
    """Return the sorted keys without those in a section that is among them."""
    every = set(keys)
    return sorted(k for k in every if not any(".".join(k.split(".")[:i]) in every for i in range(1, k.count(".") + 1)))


def observed_slices(records: Iterable[Mapping[str, Any]], config: Config) -> dict[str, list[str]]:
    """Return step → keys that its jobs read according to the records of a run; names of data sets are replaced by `*`.

    A step is a rule, or `RULE/ASSET` for a rule whose jobs provide different assets.
    """
    observed: dict[str, set[str]] = {}
    named: dict[str, Mapping[str, Any]] = {"datasets": config.datasets, "pretraining": config.pretraining}
    for record in records:
        activity = record["activity"]
        keys = observed.setdefault("/".join([activity["rule"], *filter(None, [activity["wildcards"].get("asset")])]), set())
        for key in record["config"]:
            section, _, rest = key.partition(".")
            name, _, last = rest.partition(".")
            keys.add(f"{section}.*.{last}" if name in named.get(section, {}) and last else key)
    return {rule: without_parts(keys) for rule, keys in sorted(observed.items())}


HEADER = """\
# The settings that each step reads. A changed key reruns the steps that read it, and no others; a test holds this list against the
# records of a run, and `boldscribe config --slices RESULTS` writes it anew from them.
#
# datasets.*.x is key x of the job's own data set; other_engines: what is read with another preprocessing.engine than the demo's, added
# by hand.

"""


def declaration(results: str | Path) -> str:
    """Return new content of `rules/settings.yaml` from the records of a run, keeping `other_engines` and steps without a record.

    Raises:
        UserError: no run was started there.
    """
    from boldscribe.provenance.run_files import current_config
    from boldscribe.provenance.tree import read_tree

    records = [output.record for output in read_tree(results).outputs.values() if output.record]
    slices = dict(declared_slices())
    for step, keys in observed_slices(records, current_config(results)).items():
        slices[step] = {"reads": keys, **{k: v for k, v in slices.get(step, {}).items() if k == "other_engines"}}
    return HEADER + yaml.safe_dump(dict(sorted(slices.items())), sort_keys=False, width=120, default_flow_style=None)
