"""Lineage of a result as a tree, down to raw data and locked assets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree as Lines

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import asset_lock
from boldscribe.machinery.provenance.deployment import in_words
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.run_files import results_of
from boldscribe.machinery.provenance.tree import Output, Tree, read_tree

SHOWN_FILES = 12


def explain(path: Path, *, brief: bool = False) -> Lines:
    """Return the lineage of an output as a tree of lines.

    Args:
        path: an output, or a file in one.
        brief: names, digests and rules only.

    Raises:
        UserError: the file has no record.
    """
    tree, output = recorded(path)
    return Lineage(tree, brief).of(output)


def recorded(path: Path) -> tuple[Tree, Output]:
    """Return a file's results tree, and the output that it is or belongs to.

    Raises:
        UserError: the file has no record.
    """
    tree = read_tree(results_of(path))
    if (output := tree.output_at(path)) is None:
        raise UserError(str(path), "no record mentions it; name a file that the pipeline made")
    return tree, output


@dataclass
class Lineage:
    """Drawing of outputs and what they were made from; an output that was drawn already is only named.

    Attributes:
        tree: the results tree.
        brief: names, digests and rules only.
        wanted: returns whether an input of that name is drawn.
        drawn: names of the outputs drawn so far.
    """

    tree: Tree
    brief: bool
    wanted: Callable[[str], bool] = lambda name: True
    drawn: set[str] = field(default_factory=set)

    def of(self, output: Output) -> Lines:
        """Draw an output with all that it was made from."""
        lines = Lines(described(output))
        self.grow(lines, output)
        return lines

    def grow(self, lines: Lines, output: Output) -> None:
        """Add an output's facts, and its inputs with theirs."""
        self.drawn.add(output.name)
        self.add_facts(lines, output)
        for material in output.materials():
            if self.wanted(material["path"]):
                self.add(lines, material)

    def add(self, lines: Lines, material: dict[str, Any]) -> None:
        """Add an input: an output of the run, or an external file."""
        output = self.tree.outputs.get(material["path"])
        if output is None:
            lines.add(_outside(material))
        elif output.name in self.drawn:
            lines.add(f"{escape(output.name)}  [dim](above)[/]")
        else:
            self.grow(lines.add(described(output)), output)

    def add_facts(self, lines: Lines, output: Output) -> None:
        """Add how an output was made, and the files that it contains."""
        if self.brief:
            return
        for fact in facts(output):
            lines.add(f"[dim]{escape(fact)}[/]")
        files = (output.record or {})["subject"]["files"]
        for file in files[:SHOWN_FILES] if len(files) > 1 else []:
            lines.add(f"[dim]contains {escape(file['path'])}  sha256 {file['sha256']}[/]")
        if len(files) > SHOWN_FILES:
            lines.add(f"[dim]and {len(files) - SHOWN_FILES} more files[/]")


def described(output: Output) -> str:
    """Return the line of an output: name, digest, rule and wildcards."""
    record: dict[str, Any] = output.record or {}
    values = ", ".join(f"{k} {v}" for k, v in record["activity"]["wildcards"].items() if v)
    return f"[bold]{output.name}[/]  sha256 {record['subject']['sha256']}  [cyan]{output.rule}[/]" + (f" ({values})" if values else "")


def facts(output: Output) -> Iterator[str]:
    """Yield the facts of a record about how an output was made, one line each."""
    record: dict[str, Any] = output.record or {}
    code, environment, hardware = record["code"], record["environment"], record["hardware"]
    state = {True: "", False: " with uncommitted changes", None: " outside a git checkout"}[code["committed"]]
    yield f"code: commit {code['commit']}{state}, fingerprint {code['fingerprint'][:16]}"
    container = environment["container"]
    yield (
        f"packages: {environment['packages'][:16]}, lock {str(environment['lock_sha256'])[:16]}, {in_words(environment.get('deployment'))}"
        + (f", container {container['image']} {container.get('digest')}" if container else "")
    )
    gpus = ", ".join(f"{g['model']} (driver {g['driver']}, CUDA {g['cuda']})" for g in hardware["gpu"] or []) or "no GPU"
    seeds = ", ".join(map(str, record["randomness"]["seeds"])) or "none read"
    yield f"machine {hardware['machine']}: {hardware['cpu']}, {gpus}; seed {seeds}; repeats {record['randomness']['class']}"
    if record["config"]:
        yield "settings: " + ", ".join(f"{key}={value!r}" for key, value in record["config"].items())


def _outside(material: dict[str, Any]) -> str:
    name = name_of(material["path"], ".") if material["path"].startswith("/") else material["path"]
    line = escape(f"{name}  sha256 {material['sha256']}")
    if "asset" in material:
        asset = next((a for a in asset_lock().values() if a.id == material["asset"]), None)
        return line + f"  [green]asset {material['asset']}" + (f", {asset.version}, {asset.url}, {asset.licence}[/]" if asset else "[/]")
    return line + f"  [green]raw data, in the manifest {material.get('manifest')}[/]"
