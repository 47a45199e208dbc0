"""RO-Crate entities of a run's jobs: data, parameters, programs and actions; `crate.py` writes them into a crate."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from boldscribe.machinery.files import json_digest
from boldscribe.machinery.provenance.asset_lock import asset_lock
from boldscribe.machinery.provenance.crate_graph import SOFTWARE, Graph, Job, Reference, moment, step_identity, tool_identity, unique
from boldscribe.machinery.provenance.deployment import in_words
from boldscribe.machinery.provenance.statement import NAMESPACE
from boldscribe.machinery.provenance.tree import Output, Tree

PYTHON = "https://www.python.org"
COMPLETED = "http://schema.org/CompletedActionStatus"  # the profile requires this text, not a link
DOCKER_IMAGE = "https://w3id.org/ro/terms/workflow-run#DockerImage"
OF_SEVERAL = "Its SHA-256 is computed over the digest and name of each of its files, one per line, as sha256sum writes them."
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".mp4": "video/mp4",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
    ".tex": "application/x-tex",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
}
GPU_UNITS = {"memory_gib": "https://qudt.org/vocab/unit/GibiBYTE"}
NO_UNIT = "https://qudt.org/vocab/unit/UNITLESS"


@dataclass
class Run:
    """Entities of a run's jobs, in a graph.

    Attributes:
        tree: its results tree.
        graph: receives the entities.
        in_crate: names of the files that the crate contains under the same name; all other files are outside.
    """

    tree: Tree
    graph: Graph
    in_crate: frozenset[str]
    _slots: dict[str, Reference] = field(default_factory=dict)  # identity of an output's entity → its parameter

    def add_job(self, job: Job) -> Reference:
        """Add a job as an action with its inputs, outputs, settings, container and GPU."""
        record, rule = job.record, job.rule
        activity = record["activity"]
        results = [self._output(output) for output in job.outputs]
        objects = [
            self._material(rule, slot, material) for slot, materials in sorted(record["materials"].items()) for material in materials
        ]
        objects += [self._value("wildcard", key, value, rule) for key, value in sorted(activity["wildcards"].items())]
        objects += [self._value("config", key, value, rule) for key, value in sorted(record["config"].items())]
        code, randomness = record["code"], record["randomness"]
        return self.graph.add(
            f"#job/{json_digest(job.name)[:16]}",
            "CreateAction",
            name=job.title,
            description=(
                f"Attempt {activity['attempt']}, with code of commit {code['commit']}"
                f"{'' if code['committed'] else ', changed since'} (fingerprint {code['fingerprint']}); repeatable: {randomness['class']}; "
                f"packages of a {in_words(record['environment'].get('deployment'))}."
            ),
            instrument={"@id": tool_identity(rule)},
            agent={"@id": SOFTWARE},
            object=unique(objects),
            result=unique(results),
            startTime=moment(activity["started"]),
            endTime=moment(activity["ended"]),
            actionStatus=COMPLETED,
            containerImage=self._container(record["environment"]["container"]),
            resourceUsage=[usage for gpu in record["hardware"]["gpu"] or [] for usage in self._gpu(gpu)],
        )

    def add_tool(self, rule: str, content: bytes | None, commit: str | None) -> Reference:
        """Add the program of a rule; its inputs and outputs are added with its jobs.

        Args:
            rule: name of the rule.
            content: the program's text; None if it is lost.
            commit: version of the code.
        """
        docstring = None if content is None else ast.get_docstring(ast.parse(content))
        return self.graph.add(
            tool_identity(rule),
            "SoftwareSourceCode" if content is None else ["File", "SoftwareSourceCode"],
            name=rule,
            description=docstring.partition("\n")[0] if docstring else f"Program of rule {rule}",
            encodingFormat=FORMATS[".py"],
            programmingLanguage=self.graph.add(PYTHON, "ComputerLanguage", name="Python", url=PYTHON),
            version=commit,
        )

    def _output(self, output: Output) -> Reference:
        subject = (output.record or {})["subject"]
        entity = self._data(output.name, subject["sha256"], subject["bytes"])
        slot = _slot(output)
        parameter = self._parameter(output.rule, "output", slot, entity)
        self._slots[entity["@id"]] = parameter
        return entity

    def _material(self, rule: str, slot: str, material: Mapping[str, Any]) -> Reference:
        entity = self._data(material["path"], material["sha256"], material["bytes"])
        parameter = self._parameter(rule, "input", slot, entity)
        if (asset := next((a for a in asset_lock().values() if a.id == material.get("asset")), None)) is not None:
            self.graph.add(entity["@id"], "File", identifier=asset.id, version=asset.version, license=asset.licence, url=asset.url)
        if (source := self._slots.get(entity["@id"])) is not None:
            self._connect(source, parameter, rule)
        return entity

    def _data(self, name: str, sha256: str, size: int) -> Reference:
        """Add a file, an array (a collection of file and header) or a folder; each version is a separate entity."""
        output = self.tree.outputs.get(name)
        subject = output.record["subject"] if output is not None and output.record is not None else None
        current = subject is not None and subject["sha256"] == sha256
        identity = quote(name) if name in self.in_crate and current else f"#data/{quote(name)}"
        if output is not None and not current:
            identity += f"?sha256={sha256}"
        if identity in self.graph.entities:
            return {"@id": identity}
        parts = [part["path"] for part in subject["files"]] if current and subject is not None else []
        common = {"name": name, "sha256": sha256, "contentSize": str(size)}
        if len(parts) > 1 and Path(name).name in parts:
            return self._array(identity, subject or {}, common)
        folder = Path(name).name not in parts if parts else self.tree.file_of(name).is_dir()
        if folder:
            return self.graph.add(identity, "Dataset", description=OF_SEVERAL, **common)
        return self.graph.add(identity, "File", encodingFormat=format_of(name), **common)

    def _array(self, identity: str, subject: Mapping[str, Any], common: Mapping[str, Any]) -> Reference:
        parts = {
            part["path"]: self.graph.add(
                f"{identity}/{quote(part['path'])}",
                "File",
                name=part["path"],
                sha256=part["sha256"],
                contentSize=str(part["bytes"]),
                encodingFormat=format_of(part["path"]),
            )
            for part in subject["files"]
        }
        main = parts[Path(common["name"]).name]
        entity = self.graph.add(identity, "Collection", description=OF_SEVERAL, hasPart=list(parts.values()), mainEntity=main, **common)
        self.graph.link("./", "mentions", entity)
        return entity

    def _parameter(self, rule: str, direction: str, slot: str, entity: Reference) -> Reference:
        """Add the parameter through which a rule's program read or wrote a file."""
        kind = self.graph.entities[entity["@id"]]["@type"]
        parameter = self.graph.add(f"#parameter/{rule}/{direction}/{quote(slot)}", "FormalParameter", name=slot, additionalType=kind)
        self.graph.link(entity["@id"], "exampleOfWork", parameter)
        self.graph.link(tool_identity(rule), direction, parameter)
        return parameter

    def _value(self, kind: str, key: str, value: Any, rule: str) -> Reference:
        """Add a setting or wildcard, whose parameter all programs share; values other than a number or text are written as JSON."""
        types = {bool: "Boolean", int: "Integer", float: "Float", str: "Text"}
        text = value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)
        parameter = self.graph.add(
            f"#parameter/{kind}/{quote(key)}", "FormalParameter", name=key, additionalType=types.get(type(value), "Text")
        )
        identity = f"#{kind}/{quote(key)}/{json_digest(value)[:16]}"
        self.graph.link(tool_identity(rule), "input", parameter)
        return self.graph.add(identity, "PropertyValue", name=key, value=text, exampleOfWork=[parameter])

    def _connect(self, source: Reference, target: Reference, rule: str) -> None:
        """Connect one program's output to another's input."""
        identity = "#connection/" + "--".join(p["@id"].removeprefix("#parameter/") for p in (source, target))
        if identity not in self.graph.entities:
            connection = self.graph.add(identity, "ParameterConnection", sourceParameter=source, targetParameter=target)
            self.graph.link(step_identity(rule), "connection", connection)

    def _container(self, container: Mapping[str, str | None] | None) -> Reference | None:
        if container is None:
            return None
        name, _, tag = str(container["image"]).rpartition(":") if ":" in str(container["image"]) else (str(container["image"]), "", "")
        registry = name.partition("/")[0] if "." in name.partition("/")[0] else None
        algorithm, _, value = (container.get("digest") or "").partition(":")
        return self.graph.add(
            f"#container/{quote(str(container['image']))}",
            "ContainerImage",
            additionalType={"@id": DOCKER_IMAGE},
            name=name.removeprefix(f"{registry}/"),
            registry=registry,
            tag=tag or None,
            sha256=value if algorithm == "sha256" else None,
        )

    def _gpu(self, gpu: Mapping[str, Any]) -> Iterator[Reference]:
        for key, value in sorted(gpu.items()):
            if value is not None and key != "uuid_sha256":
                identity = f"#gpu/{key}/{json_digest(value)[:16]}"
                unit = GPU_UNITS.get(key, NO_UNIT)
                yield self.graph.add(
                    identity, "PropertyValue", name=f"GPU {key}", propertyID=f"{NAMESPACE}gpu:{key}", unitCode=unit, value=value
                )


def _slot(output: Output) -> str:
    """Return the name that a rule gives an output: the option before its path on the program's command line."""
    option = "output"
    for word in (output.record or {})["activity"]["argv"]:
        if word.startswith("--"):
            option = word[2:].replace("-", "_")
        elif word == output.name:
            return str(option)
    return "output"


def format_of(name: str) -> str:
    """Return the media type of a file by its suffix."""
    return FORMATS.get(Path(name).suffix, "application/octet-stream")
