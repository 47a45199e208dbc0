"""JSON-LD entities in a graph, and the jobs of a run, as shared by the modules of the crate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.statement import job_name
from boldscribe.machinery.provenance.tree import Output, Tree

Reference = dict[str, str]
SOFTWARE = "#boldscribe"  # identity of the entity that acted


@dataclass
class Job:
    """A job of the run: its outputs share one activity.

    Attributes:
        name: identifies it uniquely.
        outputs: its outputs, sorted by name.
    """

    name: str
    outputs: list[Output]

    @property
    def record(self) -> dict[str, Any]:
        """Record content that its outputs share."""
        return self.outputs[0].record or {}

    @property
    def rule(self) -> str:
        """Name of its rule."""
        return self.outputs[0].rule

    @property
    def title(self) -> str:
        """Rule and wildcards, for display."""
        return " ".join([self.rule, *(f"{key}={value}" for key, value in self.record["activity"]["wildcards"].items())])


def jobs_of(tree: Tree) -> list[Job]:
    """Return the jobs that made a tree's outputs, in the order of their start.

    Raises:
        UserError: there is no record, or a record cannot be read or names no rule.
    """
    if not tree.outputs:
        raise UserError(str(tree.results), "found no record of a result; name the results folder of a finished run")
    jobs: dict[str, Job] = {}
    for _, output in sorted(tree.outputs.items()):
        if output.record is None:
            raise UserError(str(output.path), "its record cannot be read; run `boldscribe audit` for details")
        if not output.rule.isidentifier():  # programs are looked up and copied by this name
            raise UserError(str(output.path), f"its record names rule {output.rule!r}, expected a name of letters, digits and underscores")
        job = jobs.setdefault(job_name(output.record), Job(job_name(output.record), []))
        job.outputs.append(output)
    return sorted(jobs.values(), key=lambda job: (job.record["activity"]["started"], job.name))


@dataclass
class Graph:
    """Entities by identity, in order of addition."""

    entities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, identity: str, kind: str | list[str], **properties: Any) -> Reference:
        """Add an entity, or add properties to an existing one; empty properties are omitted."""
        entity = self.entities.setdefault(identity, {"@id": identity, "@type": kind})
        entity.update({name: value for name, value in properties.items() if value is not None and value != []})
        return {"@id": identity}

    def link(self, identity: str, name: str, target: Reference) -> None:
        """Add a link to a property of an entity, unless it exists."""
        links = self.entities[identity].setdefault(name, [])
        if target not in links:
            links.append(target)

    def json_ld(self) -> list[dict[str, Any]]:
        """Return the entities with sorted keys; a list of one is replaced by its element."""
        return [
            {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in sorted(entity.items())}
            for entity in self.entities.values()
        ]


def tool_identity(rule: str) -> str:
    """Return the identity of a rule's program: its file in the crate."""
    return f"workflow_scripts/{rule}.py"


def step_identity(rule: str) -> str:
    """Return the identity of a rule as a step of the workflow."""
    return f"#step/{rule}"


def moment(text: str) -> str:
    """Format a time in UTC to the millisecond, as the profile requires."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds")


def unique(references: Iterable[Reference]) -> list[Reference]:
    """Remove duplicate references."""
    return [{"@id": identity} for identity in dict.fromkeys(r["@id"] for r in references)]
