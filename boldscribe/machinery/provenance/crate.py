"""A finished run as Workflow Run RO-Crate of profile Provenance Run Crate 0.5: a folder that documents the run in a standard form.

The JSON-LD is written here, not by the `rocrate` package, which writes the context of another version than the profile's. It also takes
the time of publication from the clock and generates identifiers, so that two exports of one run would differ.

Files in the crate (tables, report, configuration, the workflow's own files, statements) are parts of it, named by their paths. All other
files that the run read or made stay in place. Their entities have identifiers that begin with `#`, and are not parts of the crate. This
follows the profile's rules, copies nothing large or confidential, and identifies files by their digests.

Programs and rules are those of the recorded commit if the code was committed and this repository has the commit; otherwise those in the
checkout at export.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import ROOT, sha256_of, write_json
from boldscribe.machinery.installation import locked_versions
from boldscribe.machinery.provenance.crate_graph import (
    SOFTWARE,
    Graph,
    Job,
    Reference,
    jobs_of,
    moment,
    step_identity,
    tool_identity,
    unique,
)
from boldscribe.machinery.provenance.crate_run import COMPLETED, Run, format_of
from boldscribe.machinery.provenance.environment import lock_digest
from boldscribe.machinery.provenance.redaction import redact
from boldscribe.machinery.provenance.statement import statement
from boldscribe.machinery.provenance.tree import Tree, read_tree

METADATA, PREVIEW, WORKFLOW, CONFIG = "ro-crate-metadata.json", "ro-crate-preview.html", "Snakefile", "config.yaml"
CRATE, WORKFLOW_CRATE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
CONTEXT = [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    WORKFLOW_CRATE: "Workflow RO-Crate",
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
SNAKEMAKE, SNAKEMAKE_LANGUAGE = "https://snakemake.github.io", "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
RUN = "#run"


def write_crate(results: Path, folder: Path) -> Path:
    """Export a finished run. Exports of the same tree have the same bytes.

    Args:
        results: root of the run's results tree.
        folder: the crate; must not exist. It is written completely or not at all.

    Returns:
        `folder`.

    Raises:
        UserError: the folder exists; the tree has no record, or one that cannot be read; a table or the report does not match its
            record.
    """
    results, folder = Path(results), Path(folder)
    if folder.exists():
        raise UserError(str(folder), "already exists; name a folder that does not exist, or remove it")
    tree = read_tree(results)
    jobs = jobs_of(tree)
    with _whole_folder(folder) as part:
        results_in = _copy_results(tree, part)
        workflow = _copy_workflow(jobs, part)
        statements = _write_statements(tree, results_in, part)
        graph = _graph(tree, jobs, part, results_in, workflow, statements)
        write_json(part / METADATA, {"@context": CONTEXT, "@graph": graph.json_ld()})
        (part / PREVIEW).write_text(_preview(graph), encoding="utf-8")
    return folder


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`, renamed to it on success and removed on failure."""
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    part = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.part")
    try:
        part.mkdir()
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_results(tree: Tree, part: Path) -> list[str]:
    """Copy tables, report and configuration; return the names of those that have a record."""
    names = sorted(n for n, output in tree.outputs.items() if (n.startswith("tables/") or n == "report.html") and output.path.is_file())
    for name in names:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree.outputs[name].path, part / name)
        if sha256_of(part / name) != (tree.outputs[name].record or {})["subject"]["sha256"]:
            raise UserError(
                str(tree.outputs[name].path), "does not match its record, so it is not exported; run `boldscribe audit` for details"
            )
    if (source := tree.results / CONFIG).exists():
        text = source.read_text()
        content = yaml.safe_load(text)
        public = redact(content)
        (part / CONFIG).write_text(text if public == content else yaml.safe_dump(public, sort_keys=False))
    return names


def _copy_workflow(jobs: list[Job], part: Path) -> dict[str, bytes | None]:
    """Copy Snakefile, rules and the programs that jobs ran; return path → content, None for lost files."""
    latest = {job.rule: job.record["code"] for job in jobs}
    code = jobs[-1].record["code"]
    wanted = {WORKFLOW: code} | {f"rules/{path.name}": code for path in sorted((ROOT / "rules").glob("*.*"))}
    wanted |= {tool_identity(rule): latest[rule] for rule in sorted(latest)}
    contents = {path: _content(path, version) for path, version in wanted.items()}
    for path, content in contents.items():
        if content is not None:
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(content)
    return contents


def _content(path: str, code: dict[str, Any]) -> bytes | None:
    """Return a file of the workflow in a recorded version of the code, or else as in the checkout; None if it is lost."""
    if code["committed"]:
        command = ["git", "-C", str(ROOT), "show", f"{code['commit']}:{path}"]
        found = subprocess.run(command, capture_output=True, check=False)
        if found.returncode == 0:
            return found.stdout
    return (ROOT / path).read_bytes() if (ROOT / path).exists() else None


def _write_statements(tree: Tree, names: list[str], part: Path) -> dict[str, str]:
    """Write a statement for each table; return its path → the table."""
    tables = {f"statements/{Path(name).stem}.intoto.json": name for name in names if name.endswith(".csv")}
    for path, name in tables.items():
        write_json(part / path, statement(tree, name))
    return tables


def _graph(
    tree: Tree, jobs: list[Job], part: Path, names: list[str], workflow: dict[str, bytes | None], statements: dict[str, str]
) -> Graph:
    """Build all entities of the crate."""
    graph = Graph()
    kinds = [{"@id": CRATE}, {"@id": WORKFLOW_CRATE}]
    graph.add(METADATA, "CreativeWork", about={"@id": "./"}, conformsTo=kinds)
    ended = max(moment(job.record["activity"]["ended"]) for job in jobs)
    folds = {key.split(".")[1] for job in jobs for key, value in job.record["config"].items() if key.endswith(".fold_of") and value}
    datasets = sorted({w["dataset"] for job in jobs if "dataset" in (w := job.record["activity"]["wildcards"])} - folds)
    graph.add(
        "./",
        "Dataset",
        name="Boldscribe run" + (f": {', '.join(datasets)}" if datasets else ""),
        description=f"{len(jobs)} jobs of {len({job.rule for job in jobs})} rules, from fMRI and stimulus videos to text: tables, report, "
        "and what each was made from. Other files of the run are described but not included.",
        datePublished=ended,
        license=graph.add(
            LICENCE, "CreativeWork", name="Apache-2.0", description="Licence of the workflow; data and models keep their own."
        ),
        conformsTo=[graph.add(uri, "CreativeWork", name=name, version=uri.rpartition("/")[2]) for uri, name in PROFILES.items()],
        mainEntity={"@id": WORKFLOW},
    )
    _add_software(graph, jobs)
    run = Run(tree, graph, frozenset(names))
    for rule in dict.fromkeys(job.rule for job in jobs):
        run.add_tool(rule, workflow[tool_identity(rule)], _latest(jobs, rule)["code"]["commit"])
    _add_workflow(graph, jobs)
    actions = [run.add_job(job) for job in jobs]
    _add_run(graph, jobs, actions, names)
    files = [path for path in workflow if workflow[path] is not None] + list(statements) + [CONFIG] * (part / CONFIG).exists()
    for path in files:
        _add_file(graph, part, path)
    for path, name in statements.items():
        graph.add(path, "File", name=f"Provenance of {name} (in-toto statement, SLSA predicate)", about={"@id": name})
    graph.add(PREVIEW, "CreativeWork", name="Human-readable preview", about={"@id": "./"}, encodingFormat=format_of(PREVIEW))
    graph.add("./", "Dataset", hasPart=[{"@id": path} for path in sorted({*files, *names})])
    return graph


def _add_file(graph: Graph, part: Path, path: str) -> None:
    """Add a file of the crate without a record, or add size, digest and format to an existing entity."""
    size = str((part / path).stat().st_size)
    name = graph.entities.get(path, {}).get("name", path)
    graph.add(path, "File", name=name, sha256=sha256_of(part / path), contentSize=size, encodingFormat=format_of(path))


def _latest(jobs: list[Job], rule: str) -> dict[str, Any]:
    return [job.record for job in jobs if job.rule == rule][-1]


def _add_software(graph: Graph, jobs: list[Job]) -> None:
    """Add the software that acted: the project, and Snakemake, with the locked version if the run used the same lock."""
    latest = jobs[-1].record
    locked = latest["environment"]["lock_sha256"] == lock_digest()
    version = locked_versions().get("snakemake") if locked else None
    graph.add(SOFTWARE, "SoftwareApplication", name="Boldscribe", softwareVersion=latest["code"]["commit"], url="./")
    graph.add(SNAKEMAKE, "SoftwareApplication", name="Snakemake", url=SNAKEMAKE, softwareVersion=version)
    graph.add(SNAKEMAKE_LANGUAGE, "ComputerLanguage", name="Snakemake", url=SNAKEMAKE, identifier={"@id": SNAKEMAKE})


def _add_workflow(graph: Graph, jobs: list[Job]) -> None:
    """Add the Snakefile, with a step for each rule."""
    code = jobs[-1].record["code"]
    rules = list(dict.fromkeys(job.rule for job in jobs))
    steps = [
        graph.add(step_identity(rule), "HowToStep", name=rule, position=str(position), workExample={"@id": tool_identity(rule)})
        for position, rule in enumerate(rules)
    ]
    graph.add(BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow profile")
    graph.add(
        WORKFLOW,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        name="Boldscribe workflow",
        description="From raw BIDS fMRI and stimulus videos to text" + ("" if code["committed"] else "; changed since the commit"),
        programmingLanguage={"@id": SNAKEMAKE_LANGUAGE},
        encodingFormat="text/plain",
        version=code["commit"],
        license={"@id": LICENCE},
        conformsTo={"@id": BIOSCHEMAS},
        hasPart=[{"@id": tool_identity(rule)} for rule in rules],
        step=steps,
    )


def _add_run(graph: Graph, jobs: list[Job], actions: list[Reference], names: list[str]) -> None:
    """Add the run of the whole workflow, and the engine that controlled its jobs."""
    made = {reference["@id"] for action in actions for reference in graph.entities[action["@id"]]["result"]}
    read = unique(r for action in actions for r in graph.entities[action["@id"]].get("object", []))
    results = [{"@id": name} for name in names] or list(graph.entities[actions[-1]["@id"]]["result"])
    given = [r for r in read if r["@id"] not in made and not r["@id"].startswith("#wildcard/")]
    started = min(moment(job.record["activity"]["started"]) for job in jobs)
    ended = max(moment(job.record["activity"]["ended"]) for job in jobs)
    when = {"startTime": started, "endTime": ended, "actionStatus": COMPLETED, "agent": {"@id": SOFTWARE}}
    for direction, references in (("input", given), ("output", results)):
        for reference in references:
            for parameter in graph.entities[reference["@id"]]["exampleOfWork"]:
                graph.link(WORKFLOW, direction, parameter)
    outer = {p["@id"] for direction in ("input", "output") for p in graph.entities[WORKFLOW].get(direction, [])}
    for identity, entity in graph.entities.items():
        if entity["@type"] == "ParameterConnection" and outer & {entity[f"{end}Parameter"]["@id"] for end in ("source", "target")}:
            graph.link(WORKFLOW, "connection", {"@id": identity})
    run = graph.add(
        RUN,
        "CreateAction",
        name="Run of the workflow",
        description=f"{len(jobs)} jobs",
        instrument={"@id": WORKFLOW},
        object=given,
        result=results,
        **when,
    )
    control = [
        graph.add(
            action["@id"].replace("#job/", "#control/"),
            "ControlAction",
            name=f"Control of {job.title}",
            instrument={"@id": step_identity(job.rule)},
            object=action,
        )
        for job, action in zip(jobs, actions, strict=True)
    ]
    graph.add(
        "#engine",
        "OrganizeAction",
        name="Snakemake runs the workflow",
        instrument={"@id": SNAKEMAKE},
        object=control,
        result=run,
        **when,
    )
    for action in (run, *actions):
        graph.link("./", "mentions", action)


def _preview(graph: Graph) -> str:
    """Render the crate as a page that needs no network."""
    environment = Environment(
        loader=PackageLoader("boldscribe.machinery.provenance", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    entities = graph.entities
    jobs = [entity for identity, entity in entities.items() if identity.startswith("#job/")]
    return environment.get_template("crate.html.j2").render(root=entities["./"], run=entities[RUN], entities=entities, jobs=jobs)
