"""The provenance page: the run as a clickable graph, with the origin of each result."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import pyplot as plt

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.machinery.provenance.access import unheard
from boldscribe.machinery.provenance.audit import VERDICTS, Audit, Verdict, audit
from boldscribe.machinery.provenance.explain import facts
from boldscribe.machinery.provenance.ledger import close
from boldscribe.machinery.provenance.naming import name_of
from boldscribe.machinery.provenance.tree import Output
from boldscribe.report.evidence import Table

COLOURS = {"verified": "#d9efe6", "stale": "#fdf0d5", "uncommitted": "#fdf0d5", "unpinned": "#fdf0d5"}
ALARM = "#f9d6cc"
SOFTWARE = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "pandas",
    "nilearn",
    "nibabel",
    "nipype",
    "sacrebleu",
    "rouge-score",
    "bert-score",
)


@dataclass(frozen=True)
class Audited:
    """Audit of the results that a page shows.

    Attributes:
        origin: code, settings and software behind them; None outside a run.
    """

    results: Path
    report: Audit | None
    origin: Table | None

    def verdict(self, path: Path) -> str:
        """Return the worst verdict on a file and all that it was made from, or `not audited` outside a run."""
        return worst(self.report, name_of(path, self.results)) if self.report else "not audited"


def audited(results: Path) -> Audited:
    """Audit the records of a results tree; outside a run, nothing is audited."""
    try:
        report = audit(results, fast=True)
    except UserError:
        return Audited(results, None, None)
    with unheard():
        return Audited(results, report, _origin(report))


def _origin(report: Audit) -> Table:
    """Return commits, lock, settings and versions over all records of the run."""
    records = [output.record for output in report.tree.in_order() if output.record]
    commits = Counter(
        r["code"]["commit"] + ("" if r["code"]["committed"] else " (with uncommitted changes)") for r in records if r["code"]["commit"]
    )
    locks = Counter(r["environment"]["lock_sha256"] for r in records)
    settings = {key: value for record in records for key, value in record["config"].items()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    versions: dict[str, set[str]] = defaultdict(set)
    for sha256 in {r["environment"]["packages"] for r in records}:
        for name, version in report.tree.shared("packages", sha256).items():
            versions[name].add(str(version))
    rows = [
        ["Code (commit)", ", ".join(f"{commit} in {n} records" for commit, n in commits.most_common()) or "not in a repository"],
        ["Settings that the steps read (SHA-256)", digest],
        ["Locked packages (SHA-256)", ", ".join(f"{lock}" for lock, _ in locks.most_common())],
        ["Software", ", ".join(f"{name} {' and '.join(sorted(versions[name]))}" for name in SOFTWARE if name in versions)],
    ]
    return Table(
        f"Origin of these results, from {len(records)} records", ["Item", "Value"], [row for row in rows if row[1]], frozenset({0, 1})
    )


def worst(report: Audit, name: str) -> Verdict:
    """Return the worst verdict on an output and all that it was made from."""
    return min((f.verdict for f in report.of([name])), key=VERDICTS.index, default="unrecorded")


def write_lineage(output: Path) -> None:
    """Close the ledger of the results tree that contains `output`, and write its page as one self-contained HTML file.

    Raises:
        UserError: no run was started in the results tree, or its ledger is damaged.
    """
    close(output.parent)
    report = audit(output.parent, fast=True)
    environment = Environment(
        loader=PackageLoader("boldscribe.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    rules = _rules(report)
    page = environment.get_template("provenance.html.j2").render(
        graph=rule_graph(report),
        rules=rules,
        counts=[(v, n) for v in reversed(VERDICTS) if (n := Counter(f.verdict for f in report.findings.values())[v])],
        entries=len(report.tree.ledger.entries),
        failures=[e for e in report.tree.ledger.entries if e["exit"].startswith("failed")],
    )
    with atomic(output) as part:
        part.write_text(page, encoding="utf-8")


def _rules(report: Audit) -> dict[str, list[dict[str, Any]]]:
    """Return rule → its outputs with verdict, facts and links, in topological order."""
    rules: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for output in report.tree.in_order():
        if output.record is None:
            continue
        finding = report.findings[output.name]
        rules[output.rule].append(
            {
                "name": output.name,
                "verdict": finding.verdict,
                "reasons": [why for _, why in finding.reasons],
                "sha256": output.record["subject"]["sha256"],
                "bytes": output.record["subject"]["bytes"],
                "facts": list(facts(output)),
                "activity": output.record["activity"],
                "materials": [{"known": m["path"] in report.tree.outputs, **m} for m in output.materials()],
                "used_by": sorted(o.name for o in report.tree.outputs.values() if output.name in {m["path"] for m in o.materials()}),
            }
        )
    return rules


def rule_graph(report: Audit) -> str:
    """Draw the rules as SVG, inputs on the left; each links to its section and has the colour of its outputs' worst verdict.

    Arrows that are implied by a path of other arrows are omitted.
    """
    graph: Any = nx.DiGraph()
    verdicts: dict[str, Verdict] = {}
    for output in report.tree.in_order():
        graph.add_node(output.rule)
        verdicts[output.rule] = min(verdicts.get(output.rule, "verified"), report.findings[output.name].verdict, key=VERDICTS.index)
        for other in _made_from(report, output):
            if other.rule != output.rule:
                graph.add_edge(other.rule, output.rule)
    graph = nx.transitive_reduction(graph)
    for layer, names in enumerate(nx.topological_generations(graph)):
        for name in names:
            graph.nodes[name]["layer"] = layer
    places = nx.multipartite_layout(graph, subset_key="layer", align="vertical") if graph else {}
    with plt.rc_context({"svg.hashsalt": "boldscribe", "svg.fonttype": "none", "font.size": 9}):
        figure, ax = plt.subplots(figsize=(15, 3.4), layout="constrained")
        ax.axis("off")
        ax.margins(0.06, 0.3)
        nx.draw_networkx_edges(graph, places, ax=ax, edge_color="0.55", node_size=2000, arrowsize=9)
        for name, (x, y) in places.items():
            colour = COLOURS.get(verdicts[name], ALARM)
            box = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "0.3"}
            ax.text(x, y, name.replace("_", "\n"), ha="center", va="center", bbox=box, url=f"#rule-{name}")
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


def _made_from(report: Audit, output: Output) -> list[Output]:
    return [report.tree.outputs[m["path"]] for m in output.materials() if m["path"] in report.tree.outputs]
