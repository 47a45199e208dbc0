"""Fingerprint of a program's code: a digest over every definition that it can reach, blind to comments, docstrings and formatting.

Names in the program's statements are followed to their definitions (functions, classes, assignments) in this project's modules, and the
digest is taken over those definitions in a normal form. It changes when a function changes that the program uses, but not when an unused
one does. Where names cannot be followed, more is included rather than less. A module counts as a whole if its object is passed around,
or if its dotted name appears in a string. Statements that act on import count for every imported module, and so do files next to a
module that are named in its code (templates).

Excluded are the machinery's folders for steps, provenance, the cluster and the fork server, since recording a result and placing its
computation do not affect it, and the classes of the configuration, since the values that a step reads are recorded separately.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from boldscribe.machinery.files import ROOT, json_digest
from boldscribe.machinery.provenance.cache import remembered, state_of
from boldscribe.machinery.provenance.modules import Module, chain, exists, imported_modules, imports, parse_module, walk

PROJECT = ("boldscribe", "workflow_scripts")
APART = ("provenance", "steps", "cluster", "forkserver", "configuration", "section", "registry")
RECORDED_APART = (
    "boldscribe.config",
    "boldscribe.workflow",
    "boldscribe.closed_files",
    *(f"boldscribe.machinery.{name}" for name in APART),
)

Read = Callable[[Path], bytes]
Definition = tuple[str, str]  # module and name; the empty name stands for statements that act on import


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of a program's code.

    Attributes:
        sha256: digest of `parts`.
        parts: dotted name of each definition that the program can reach, and path of each file that its code names → digest (16
            hexadecimal digits).
        packages: import names of the third-party packages that it uses.
    """

    sha256: str
    parts: dict[str, str]
    packages: frozenset[str]


@dataclass
class _References:
    """References of a definition."""

    definitions: set[Definition] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)


class Code:
    """The project's code in the version that `read` returns; modules that programs share are parsed once.

    Args:
        read: returns the content of a file of the checkout.
    """

    def __init__(self, read: Read = Path.read_bytes) -> None:
        self._read = read
        self._modules: dict[str, Module] = {}
        self._references: dict[Definition, _References] = {}
        self._digests: dict[Definition, str] = {}

    def fingerprint(self, program: str) -> Fingerprint:
        """Return the fingerprint of `workflow_scripts.PROGRAM`."""
        start = f"workflow_scripts.{program}"
        reached: set[Definition] = set()
        entered: set[str] = set()
        files: set[Path] = set()
        packages: set[str] = set()
        waiting: list[Definition] = [(start, name) for name in self._module(start).definitions]
        modules = [start]
        while waiting or modules:
            while modules:
                if (name := modules.pop()) not in entered:
                    entered.add(name)
                    parents = [name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)]
                    modules += [m for m in (*parents, *self._module(name).imported) if _counts(m)]
                    waiting.append((name, ""))
            if (definition := waiting.pop()) not in reached:
                reached.add(definition)
                references = self._refer(definition)
                waiting += references.definitions - reached
                modules += references.modules - entered
                files |= references.files
                packages |= references.packages
        parts = {".".join(filter(None, d)): self._digest(d) for d in reached if self._statements(d)}
        parts |= {p.relative_to(ROOT).as_posix(): hashlib.sha256(self._read(p)).hexdigest()[:16] for p in files}
        return Fingerprint(json_digest(parts), dict(sorted(parts.items())), frozenset(packages))

    def statements(self, module: str, name: str) -> list[ast.stmt]:
        """Return the statements that bind a name in a module of the project; empty if none does."""
        return self._module(module).definitions.get(name, []) if exists(module) else []

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            self._modules[name] = parse_module(name, self._read)
        return self._modules[name]

    def _statements(self, definition: Definition) -> list[ast.stmt]:
        module, name = definition
        return self._module(module).definitions[name] if name else self._module(module).effects

    def _digest(self, definition: Definition) -> str:
        if definition not in self._digests:
            text = "\n".join(ast.dump(s, annotate_fields=False) for s in self._statements(definition))
            self._digests[definition] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._digests[definition]

    def _refer(self, definition: Definition) -> _References:
        if definition not in self._references:
            found = self._references[definition] = _References()
            for statement in self._statements(definition):
                self._follow(self._module(definition[0]), statement, found)
        return self._references[definition]

    def _follow(self, module: Module, statement: ast.stmt, found: _References) -> None:
        """Collect what the names and strings of a statement refer to."""
        nodes = walk(statement)
        origins = module.imports | imports(module.name, nodes)
        found.modules |= {m for m in imported_modules(module.name, nodes) if _counts(m)}
        followed: set[ast.AST] = set()  # names that were followed with their attributes
        for node in nodes:
            if isinstance(node, ast.Attribute):
                start, attributes = chain(node)
                if start is not None and start.id in origins and start not in followed:
                    followed.add(start)
                    self._resolve(*origins[start.id], attributes, found)
            elif isinstance(node, ast.Name) and node not in followed:
                if node.id in module.definitions:
                    found.definitions.add((module.name, node.id))
                elif node.id in origins:
                    self._resolve(*origins[node.id], [], found)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._follow_text(module, node.value, found)

    def _resolve(self, name: str, attribute: str | None, attributes: list[str], found: _References) -> None:
        """Follow `module.attribute.attribute…` through submodules, and on through what these import."""
        path = [*([attribute] if attribute else []), *attributes]
        if not _counts(name):
            if (package := name.partition(".")[0]) not in PROJECT and package not in sys.stdlib_module_names:
                found.packages.add(package)
            return
        while path and exists(f"{name}.{path[0]}"):
            name = f"{name}.{path.pop(0)}"
        if not _counts(name):
            return
        module = self._module(name)
        found.modules.add(name)
        if not path:
            found.definitions |= {(name, d) for d in module.definitions}
        elif path[0] in module.definitions:
            found.definitions.add((name, path[0]))
        elif path[0] in module.imports:
            self._resolve(*module.imports[path[0]], path[1:], found)

    def _follow_text(self, module: Module, text: str, found: _References) -> None:
        """Follow a string that names a module, or a file next to the code."""
        if _counts(text) and exists(text):
            self._resolve(text, None, [], found)
        elif "." in text[1:] and len(text) < 100 and "\n" not in text and not text.startswith("/"):
            path = module.path.parent / text
            if path.suffix not in ("", ".py") and path.is_file():
                found.files.add(path)


def _counts(name: str) -> bool:
    """Return whether a module's definitions are part of a program's fingerprint."""
    return name.partition(".")[0] in PROJECT and not any(name == apart or name.startswith(apart + ".") for apart in RECORDED_APART)


@cache
def current_code() -> Code:
    """Return the code on disk; later edits of files that it has read are not seen by this process."""
    return Code()


@cache
def current_fingerprint(program: str) -> Fingerprint:
    """Return the fingerprint of a program's code on disk; it is cached until a file of the project changes."""
    found = remembered(f"fingerprint-{program}", code_state(), lambda: _work_out(program))
    return Fingerprint(found["sha256"], found["parts"], frozenset(found["packages"]))


@cache
def code_state() -> str:
    """Return a digest of the sizes and times of all files of the project's code."""
    return state_of(p for folder in PROJECT for p in sorted((ROOT / folder).rglob("*")) if p.is_file() and p.suffix != ".pyc")


def _work_out(program: str) -> dict[str, Any]:
    """Compute the fingerprint as JSON, without garbage collection, which would scan the modules' many nodes repeatedly."""
    collects = gc.isenabled()
    gc.disable()
    try:
        found = current_code().fingerprint(program)
    finally:
        if collects:
            gc.enable()
    return {"sha256": found.sha256, "parts": found.parts, "packages": sorted(found.packages)}


def changed_parts(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Yield the names of definitions and files that differ between the parts of two fingerprints."""
    yield from sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
