"""The provenance page: the run as a graph to click through, and behind each result what made it."""

from __future__ import annotations

from collections import Counter, defaultdict
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import pyplot as plt

from boldscribe.errors import UserError
from boldscribe.files import atomic
from boldscribe.provenance.audit import VERDICTS, Audit, Verdict, audit
from boldscribe.provenance.explain import facts
from boldscribe.provenance.ledger import close
from boldscribe.provenance.naming import name_of
from boldscribe.provenance.tree import Output

COLOURS = {"verified": "#d9efe6", "stale": "#fdf0d5", "uncommitted": "#fdf0d5", "unpinned": "#fdf0d5"}
ALARM = "#f9d6cc"


def badges(results: Path, paths: list[Path]) -> dict[str, str]:
    """Name of each file → the worst verdict on it and all that it was made from, or `not audited` outside a run."""
    try:
        report = audit(results, fast=True)
    except UserError:
        return {path.name: "not audited" for path in paths}
    return {path.name: worst(report, name_of(path, results)) for path in paths}


def worst(report: Audit, name: str) -> Verdict:
    """The worst verdict on an output and all that it was made from."""
    return min((f.verdict for f in report.of([name])), key=VERDICTS.index, default="unrecorded")


def write_lineage(output: Path) -> None:
    """Close the ledger of the results tree that `output` lies in, and write its page: one HTML file that needs no other.

    Raises:
        UserError: no run was started in the results tree, or its ledger is damaged.
    """
    close(output.parent)
    report = audit(output.parent, fast=True)
    environment = Environment(
        loader=PackageLoader("boldscribe.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
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
    """Rule → its outputs, with verdict, facts and links, in the order of the run."""
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
    """The rules as SVG, inputs on the left; each links to its section and has the colour of its outputs' worst verdict.

    An arrow that a path of other arrows implies is left out.
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
