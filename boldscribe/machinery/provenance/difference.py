"""Causes of a difference between two runs: from a number in a table back to the first step with its own cause.

A step with other inputs gives other outputs; that is a consequence, not a cause. A cause is a step with the same inputs but other code,
settings, packages or machine, or an input that no step of the run has made as it was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from boldscribe.machinery.provenance.deployment import in_words
from boldscribe.machinery.provenance.digests import digest
from boldscribe.machinery.provenance.fingerprint import changed_parts
from boldscribe.machinery.provenance.tree import Output, Tree, read_tree

Kind = Literal["data", "code", "config", "seed", "environment", "hardware", "chance"]
SHOWN = 6


@dataclass(frozen=True)
class NumberDifference:
    """A number of a table that differs between two runs.

    Attributes:
        table: name of the output.
        row, condition, metric: its position in the table.
        before, after: the number in A and in B (%).
        low, high: A's 95 % interval.
    """

    table: str
    row: str
    condition: str
    metric: str
    before: float
    after: float
    low: float
    high: float

    @property
    def within_spread(self) -> bool:
        """True if B's number lies inside the statistical spread that A states for its own."""
        return self.low <= self.after <= self.high


@dataclass(frozen=True)
class Cause:
    """A step or input whose difference is not inherited from its inputs.

    Attributes:
        kind: what differs.
        name: the output of the step, or the input.
        what: in words.
    """

    kind: Kind
    name: str
    what: str


@dataclass(frozen=True)
class Difference:
    """Difference between two runs.

    Attributes:
        number: the first number that differs; None if all tables are equal.
        n_numbers: how many numbers differ.
        causes: the first causes, those that come before all others on the way to the number (or to any output if none differs).
        steps: names of the outputs that differ, from the first to the table.
    """

    number: NumberDifference | None
    n_numbers: int
    causes: list[Cause]
    steps: list[str]


def compare(a: str | Path, b: str | Path) -> Difference:
    """Compare two results trees.

    Raises:
        UserError: one of them does not exist.
    """
    before, after = read_tree(a), read_tree(b)
    numbers = list(_numbers(before, after))
    ends = [numbers[0].table] if numbers else [name for name in before.outputs if name in after.outputs]
    order = {output.name: i for i, output in enumerate(before.in_order())}
    steps = sorted({n for end in ends for n in before.lineage(end) if n in after.outputs}, key=order.__getitem__)
    causes: dict[str, list[Cause]] = {}
    downstream: set[str] = set()
    for name in steps:
        materials = {m["path"] for m in before.outputs[name].materials()} | {m["path"] for m in after.outputs[name].materials()}
        if found := list(_causes(before, after, name)):
            causes[name] = found
        if materials & (downstream | causes.keys()):
            downstream.add(name)
    first = [cause for name, found in causes.items() if name not in downstream for cause in found]
    differing = [n for n in steps if _sha256(before.outputs[n]) != _sha256(after.outputs[n])]
    first.sort(key=lambda cause: cause.name not in differing)  # of a step's outputs, name one that differs
    return Difference(numbers[0] if numbers else None, len(numbers), _merged(first), differing)


def _numbers(before: Tree, after: Tree) -> Iterator[NumberDifference]:
    """Yield the numbers that differ, of tables in both runs, in the order of the tables."""
    keys = ["row", "condition", "metric"]
    for name, output in sorted(before.outputs.items()):
        if output.rule != "tables" or not name.endswith(".csv") or name not in after.outputs:
            continue
        tables = [pd.read_csv(t.file_of(name), dtype={"subject": str}) for t in (before, after)]
        if not all({*keys, "value"} <= set(table) for table in tables):
            continue
        both = tables[0].merge(tables[1], on=keys, suffixes=("", "_after"))
        neither = both["value"].isna() & both["value_after"].isna()  # a score that is undefined in both runs
        for row in both[(both["value"] != both["value_after"]) & ~neither].to_dict("records"):
            numbers = [float(row[column]) for column in ("value", "value_after", "low", "high")]
            yield NumberDifference(name, str(row["row"]), str(row["condition"]), str(row["metric"]), *numbers)


def _causes(before: Tree, after: Tree, name: str) -> Iterator[Cause]:
    """Yield what differs at a step itself, excluding inputs that a step of both runs has made."""
    a, b = before.outputs[name], after.outputs[name]
    x, y = a.record or {}, b.record or {}
    yield from _edited_inputs(before, after, a, b)
    if x["code"]["fingerprint"] != y["code"]["fingerprint"]:
        parts = [tree.shared("code", r["code"]["fingerprint"]) for tree, r in ((before, x), (after, y))]
        yield Cause("code", name, f"code: {_some(list(changed_parts(*parts)))}")
    for key in sorted(x["config"].keys() | y["config"].keys()):
        if x["config"].get(key) != y["config"].get(key):
            kind: Kind = "seed" if key == "seed" else "config"
            yield Cause(kind, name, f"{key}: {x['config'].get(key)!r} in A, {y['config'].get(key)!r} in B")
    if x["environment"]["packages"] != y["environment"]["packages"]:
        versions = [tree.shared("packages", r["environment"]["packages"]) for tree, r in ((before, x), (after, y))]
        changed = [f"{n} {versions[0].get(n, 'none')} in A, {versions[1].get(n, 'none')} in B" for n in changed_parts(*versions)]
        yield Cause("environment", name, f"packages: {_some(changed)}")
    if x["environment"]["container"] != y["environment"]["container"]:
        yield Cause("environment", name, f"container: {x['environment']['container']} in A, {y['environment']['container']} in B")
    if (
        _sha256(a) != _sha256(b)
        and _same_inputs(a, b)
        and x["code"]["fingerprint"] == y["code"]["fingerprint"]
        and x["config"] == y["config"]
    ):
        yield from _by_machine(name, x, y)


def _edited_inputs(before: Tree, after: Tree, a: Output, b: Output) -> Iterator[Cause]:
    """Yield inputs that differ although no step made them differ: raw files, assets, and outputs changed afterwards."""
    read = [{m["path"]: m for m in output.materials()} for output in (a, b)]
    for path in sorted(read[0].keys() | read[1].keys()):
        x, y = read[0].get(path), read[1].get(path)
        if x is None or y is None:
            yield Cause("data", a.name, f"input {path} is read in {'B' if x is None else 'A'} only")
        elif x["sha256"] != y["sha256"]:
            for tree, label, material in ((before, "A", x), (after, "B", y)):
                made = tree.outputs.get(path)
                if made is not None and made.record is not None and _sha256(made) != material["sha256"]:
                    yield Cause("data", path, f"{_edited_files(made)} changed in {label} after it was made")
            if path not in before.outputs and path not in after.outputs:
                yield Cause("data", path, f"sha256 {x['sha256'][:16]} in A, {y['sha256'][:16]} in B")


def _edited_files(made: Output) -> str:
    record: dict[str, Any] = made.record or {}
    stated = {f["path"]: f["sha256"] for f in record["subject"]["files"]}
    there = {f["path"]: f["sha256"] for f in digest(made.path)["files"]} if made.path.exists() else {}
    return _some(list(changed_parts(stated, there))) or made.name


def _by_machine(name: str, x: dict[str, Any], y: dict[str, Any]) -> Iterator[Cause]:
    """Yield causes of other outputs from the same inputs, code and settings: the installation, the machine, or chance on a GPU."""
    places = [r["environment"].get("deployment") for r in (x, y)]
    # conda builds Python differently, even if the versions agree
    moved = None not in places and len({(place["kind"], place["environment"]) for place in places}) > 1
    if moved:
        yield Cause("environment", name, f"installation: {in_words(places[0])} in A, {in_words(places[1])} in B")
    machines = [{k: r["hardware"][k] for k in ("cpu", "gpu")} for r in (x, y)]
    if machines[0] != machines[1]:
        yield Cause("hardware", name, f"{machines[0]} in A, {machines[1]} in B")
    elif "statistical" in (x["randomness"]["class"], y["randomness"]["class"]):
        yield Cause("chance", name, "computed on a GPU, where the same computation is repeatable only up to rounding")
    elif x["environment"]["packages"] == y["environment"]["packages"] and not moved:
        yield Cause("chance", name, "nothing that was recorded differs, so this step is not repeatable; report it")


def _same_inputs(a: Output, b: Output) -> bool:
    return sorted((m["path"], m["sha256"]) for m in a.materials()) == sorted((m["path"], m["sha256"]) for m in b.materials())


def _merged(causes: list[Cause]) -> list[Cause]:
    """Merge equal causes, keeping the first step at which each occurs."""
    first: dict[tuple[Kind, str], Cause] = {}
    for cause in causes:
        first.setdefault((cause.kind, cause.what), cause)
    return list(first.values())


def _sha256(output: Output) -> str:
    return str((output.record or {"subject": {"sha256": ""}})["subject"]["sha256"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
