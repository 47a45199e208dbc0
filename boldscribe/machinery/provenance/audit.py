"""Audit of results against their records and against what would be made today: one verdict per output, with reasons.

| verdict | meaning |
| --- | --- |
| tampered | a file, record, asset or ledger line is not what was written |
| unrecorded | an output without record, or with one that the ledger does not vouch for |
| orphan | a file of the results tree without any record |
| stale | made by other code, settings, packages or inputs than today's, or from something stale |
| uncommitted | the code that made it is in no commit |
| unpinned | a package, container or asset was not the locked one |
| verified | none of the above |

A verdict is about the output itself. Only staleness propagates to what was made from it. An edited table, for example, is one tampered
file, since outputs made from the original remain valid. A record that the ledger does not vouch for proves nothing and is not used to
judge other outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from boldscribe.machinery.configuration import Experiment, look_up
from boldscribe.machinery.files import json_digest, sha256_of
from boldscribe.machinery.provenance.access import unheard
from boldscribe.machinery.provenance.asset_lock import asset_lock
from boldscribe.machinery.provenance.digests import file_state, files_of, read_states, write_states
from boldscribe.machinery.provenance.environment import packages_of, unlocked
from boldscribe.machinery.provenance.fingerprint import changed_parts, current_fingerprint
from boldscribe.machinery.provenance.ledger import folder_of
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.redaction import redact, restore
from boldscribe.machinery.provenance.run_files import current_config
from boldscribe.machinery.provenance.tree import Output, Tree, read_tree
from boldscribe.machinery.provenance.versions import is_known_commit

Verdict = Literal["tampered", "unrecorded", "orphan", "stale", "uncommitted", "unpinned", "verified"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # the worst first
HASHING_THREADS = 8
SHOWN = 4


@dataclass
class Finding:
    """An audit's finding about one output, stray file, asset or ledger.

    Attributes:
        name: as records name it.
        rule: the rule that made it; empty if no rule did.
        reasons: (verdict, why), in words.
    """

    name: str
    rule: str = ""
    reasons: list[tuple[Verdict, str]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict among its reasons."""
        return min((verdict for verdict, _ in self.reasons), key=VERDICTS.index, default="verified")


@dataclass(frozen=True)
class Audit:
    """An audited results tree.

    Attributes:
        tree: the tree.
        findings: by name; items outside the tree (assets, the ledger) are listed only if something is wrong with them.
    """

    tree: Tree
    findings: dict[str, Finding]

    def of(self, names: Iterable[str]) -> list[Finding]:
        """Return the findings about outputs, all that they were made from, and the ledger that vouches for them."""
        wanted = dict.fromkeys(n for name in names for n in self.tree.lineage(name) or [name])
        outside = {m["path"] for n in wanted if n in self.tree.outputs for m in self.tree.outputs[n].materials()}
        return [f for f in self.findings.values() if f.name in wanted or f.name in outside or f.name == _ledger_name(self.tree)]


def audit(results: str | Path, *, fast: bool = False, config: Experiment | None = None) -> Audit:
    """Judge every output of a results tree, every stray file in it, its ledger, and the assets and raw data that it was made from.

    Args:
        results: root of the tree.
        fast: trust that a file has the recorded content if its size, times and inode are those of its record.
        config: today's configuration; by default, read from the files that the run was started with.

    Raises:
        UserError: no run was started there, or its configuration files cannot be read.
    """
    with unheard():
        return _audit(read_tree(results), fast, config or current_config(results))


def _audit(tree: Tree, fast: bool, config: Experiment) -> Audit:
    damage = _damage(tree, fast)
    findings: dict[str, Finding] = {}
    stale: dict[str, bool] = {}  # of the outputs with trusted records
    for output in tree.in_order():
        finding = findings[output.name] = Finding(output.name, output.rule, list(damage.get(output.name, [])))
        if faults := list(_vouching(tree, output)):
            finding.reasons += faults
        elif output.record is not None:
            reasons = [*_changes(tree, output, config), *_inherited(tree, output, stale)]
            stale[output.name] = bool(reasons)
            finding.reasons += [("stale", why) for why in reasons]
            finding.reasons += _pinning(tree, output)
    for finding in (*_strays(tree), *_outside(tree, fast)):
        findings[finding.name] = finding
    return Audit(tree, dict(sorted(findings.items())))


def _damage(tree: Tree, fast: bool) -> dict[str, list[tuple[Verdict, str]]]:
    """Find outputs whose files do not match their records."""
    found: dict[str, list[tuple[Verdict, str]]] = {}
    doubtful: list[tuple[str, Path, str]] = []
    believed = read_states(tree.results)
    for output in tree.outputs.values():
        if output.record is None:
            found[output.name] = [("tampered", "its record cannot be read")]
            continue
        subject = output.record["subject"]
        if subject["path"] != output.name:
            found.setdefault(output.name, []).append(("tampered", f"its record belongs to {subject['path']}"))
        stated = {entry["path"]: entry for entry in subject["files"]}
        base = output.path if output.path.is_dir() else output.path.parent
        there = {p.relative_to(base).as_posix(): p for p in files_of(output.path) if p.exists()}
        for what, names in (("is gone", stated.keys() - there.keys()), ("was added", there.keys() - stated.keys())):
            found.setdefault(output.name, []).extend(("tampered", f"{name} {what}") for name in sorted(names))
        for name in stated.keys() & there.keys():
            state, sha256 = file_state(there[name]), stated[name]["sha256"]
            seen = believed.get(there[name].relative_to(tree.results).as_posix())
            if not fast or (state != stated[name]["state"] and seen != [state, sha256]):
                doubtful.append((output.name, there[name], sha256))
    changed = list(_other_content(doubtful))
    for name, path in changed:
        found.setdefault(name, []).append(("tampered", f"the content of {path.name} differs from what was written"))
    write_states(tree.results, {path: sha256 for _, path, sha256 in doubtful}, without={path for _, path in changed})
    return found


def _other_content(doubtful: list[tuple[str, Path, str]]) -> Iterator[tuple[str, Path]]:
    """Yield name and file of those whose digest differs from the stated one."""
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        digests = pool.map(sha256_of, (path for _, path, _ in doubtful), chunksize=64)
        yield from ((name, path) for (name, path, stated), found in zip(doubtful, digests, strict=True) if found != stated)


def _vouching(tree: Tree, output: Output) -> Iterator[tuple[Verdict, str]]:
    vouched = tree.vouched.get(output.name)
    if vouched is None:
        yield "unrecorded", "no entry of the ledger vouches for it"
    elif output.record_sha256 not in vouched:
        yield "tampered", "its record was not written by this run"


def _changes(tree: Tree, output: Output, config: Experiment) -> Iterator[str]:
    """Yield what has changed since an output was made."""
    record: dict[str, Any] = output.record or {}
    rule = record["activity"]["rule"]
    try:
        code, packages = current_fingerprint(rule), _packages(rule)
    except FileNotFoundError:
        yield f"its program, workflow_scripts/{rule}.py, is gone"
        return
    if record["code"]["fingerprint"] != code.sha256:
        yield f"code: {_some(changed_parts(tree.shared('code', record['code']['fingerprint']), code.parts))} changed"
    today = look_up(config, record["config"])
    if other := {key: today[key] for key, value in record["config"].items() if today[key] != value}:
        settings = redact(other)  # records are redacted
        changed = [f"{k} is {settings[k]!r}, was {record['config'][k]!r}" for k in settings if settings[k] != record["config"][k]]
        if changed:
            yield f"config: {_some(changed)}"
    if record["environment"]["packages"] != json_digest(packages):
        before = tree.shared("packages", record["environment"]["packages"])
        changed = [f"{n} {packages.get(n, 'none')}, was {before.get(n, 'none')}" for n in changed_parts(before, packages)]
        yield f"packages: {_some(changed)}"


def _inherited(tree: Tree, output: Output, stale: dict[str, bool]) -> Iterator[str]:
    """Yield inputs that have since been made again, or are stale themselves; `stale` contains only those with trusted records."""
    for name, sha256 in ((m["path"], m["sha256"]) for m in output.materials() if m["path"] in stale):
        if (tree.outputs[name].record or {})["subject"]["sha256"] != sha256:
            yield f"input: {name} has since been made again"
        elif stale[name]:
            yield f"input: {name} is stale"


def _pinning(tree: Tree, output: Output) -> Iterator[tuple[Verdict, str]]:
    record: dict[str, Any] = output.record or {}
    if (commit := record["code"]["commit"]) is None:
        yield "uncommitted", "its code was not in a git checkout"
    elif not record["code"]["committed"]:
        yield "uncommitted", f"its code differed from commit {commit[:12]}"
    elif not is_known_commit(commit):
        yield "uncommitted", f"its commit {commit[:12]} is not in this repository"
    if other := unlocked(tree.shared("packages", record["environment"]["packages"])):
        yield "unpinned", f"packages that differ from the lock: {_some(other)}"
    if (container := record["environment"]["container"]) is not None and not container.get("digest"):
        yield "unpinned", f"the digest of container {container.get('image')} is unknown"
    locked = {asset.id: asset for asset in asset_lock().values()}
    for material in output.materials():
        if "asset" in material and (asset := locked.get(material["asset"])) is None:
            yield "unpinned", f"asset {material['asset']} is not in the lock"
        elif "asset" in material and asset is not None and asset.sha256 != material["sha256"]:
            yield "unpinned", f"asset {asset.id} was not the locked one"


def _strays(tree: Tree) -> Iterator[Finding]:
    """Yield files without a record: outputs that the ledger lists, and orphans."""
    for name in tree.strays():
        above = [name, *(p.as_posix() for p in Path(name).parents), Path(name).with_suffix(".npy").as_posix()]
        known = next((n for n in above if n in tree.vouched), None)
        if known is None:
            yield Finding(name, reasons=[("orphan", "no record mentions it")])
        else:
            yield Finding(known, reasons=[("unrecorded", "its record is gone")])


def _outside(tree: Tree, fast: bool) -> Iterator[Finding]:
    """Yield faults of the ledger, and of assets and raw data outside the tree."""
    if tree.ledger.faults:
        yield Finding(_ledger_name(tree), reasons=[("tampered", fault) for fault in tree.ledger.faults])
    assets = {m["path"]: m for output in tree.outputs.values() for m in output.materials() if "asset" in m}
    for name, material in assets.items():
        path = tree.file_of(name)
        if not path.exists():
            yield Finding(name, reasons=[("tampered", "the asset is gone")])
        elif sha256_of(path) != material["sha256"]:
            yield Finding(name, reasons=[("tampered", "the asset's content differs from what was used")])
    for output in tree.outputs.values():
        if output.rule in ("fetch_dataset", "fetch_pretraining") and output.path.exists():
            yield from _raw_data(tree, output.path, fast)


def _raw_data(tree: Tree, file: Path, fast: bool) -> Iterator[Finding]:
    """Yield files that do not match their manifest."""
    doubtful: list[tuple[str, Path, str]] = []
    for name, entries in json.loads(file.read_text())["manifest"].items():
        place = restore(name)
        stated = {entry["path"]: entry for entry in entries}
        folder = place.parent if not place.is_dir() and [*stated] == [place.name] else place  # a manifest may be of a single file
        there = {p.relative_to(folder).as_posix(): p for p in files_of(place) if p.exists()}
        for what, names in (("is gone", stated.keys() - there.keys()), ("was added to the raw data", there.keys() - stated.keys())):
            for name in sorted(names):
                yield Finding(name_of(folder / name, tree.results), reasons=[("tampered", what)])
        for name in stated.keys() & there.keys():
            if not (fast and stated[name]["state"] == file_state(there[name])):
                doubtful.append((name_of(there[name], tree.results), there[name], stated[name]["sha256"]))
    for name, _ in _other_content(doubtful):
        yield Finding(name, reasons=[("tampered", "its content does not match the manifest of the raw data")])


def _ledger_name(tree: Tree) -> str:
    return name_of(folder_of(tree.results) / "ledger.jsonl", tree.results)


@cache
def _packages(rule: str) -> dict[str, str]:
    return packages_of(rule)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
