"""Printed output of `boldscribe audit`, `explain` and `diff`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.audit import VERDICTS, Audit, Finding, audit
from boldscribe.machinery.provenance.difference import Difference
from boldscribe.machinery.provenance.run_files import results_of

DISTRUSTED = ("tampered", "unrecorded", "orphan")
EXIT_DISTRUSTED, EXIT_OTHERWISE = 4, 3
STYLES = {"verified": "green", "stale": "yellow", "uncommitted": "yellow", "unpinned": "yellow"}


def console() -> Console:
    """Return a console that does not wrap lines, and writes them at full width if there is no terminal."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else 100_000)


def audited(paths: Sequence[Path], fast: bool) -> list[tuple[Path, Audit, list[Finding]]]:
    """Audit the results tree of each path: a whole tree, or the outputs below a path with all that they were made from.

    Raises:
        UserError: a path is in no results tree, or has no record.
    """
    trees: dict[Path, list[Path]] = {}
    for path in paths:
        trees.setdefault(results_of(path).absolute(), []).append(path.absolute())
    found = []
    for results, wanted in trees.items():
        report = audit(results, fast=fast)
        if results in wanted:
            found.append((results, report, list(report.findings.values())))
            continue
        names = [name for path in wanted for name in _names(report, path)]
        found.append((results, report, report.of(names)))
    return found


def _names(report: Audit, path: Path) -> list[str]:
    """Return the names of the outputs that a path is, is part of, or contains."""
    if (output := report.tree.output_at(path)) is not None:
        return [output.name]
    below = [f.name for f in report.findings.values() if report.tree.file_of(f.name).absolute().is_relative_to(path)]
    if not below:
        raise UserError(str(path), "no record mentions it; name a file or folder of the results")
    return below


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 if all outputs are verified, 4 if something cannot be trusted, otherwise 3."""
    verdicts = {f.verdict for f in findings}
    return EXIT_DISTRUSTED if verdicts & set(DISTRUSTED) else EXIT_OTHERWISE if verdicts - {"verified"} else 0


def print_audit(results: Path, findings: Sequence[Finding], console: Console) -> None:
    """Print a line for each output that is not verified, the worst first, and the count of each verdict."""
    table = Table("verdict", "output", "rule", "why", title=str(results), title_justify="left", box=None, pad_edge=False)
    for finding in sorted(findings, key=lambda f: VERDICTS.index(f.verdict)):
        if finding.verdict != "verified":
            style = STYLES.get(finding.verdict, "red")
            why = "; ".join(dict.fromkeys(reason for verdict, reason in finding.reasons if verdict == finding.verdict))
            table.add_row(f"[{style}]{finding.verdict}[/]", escape(finding.name), finding.rule, escape(why))
    if table.rows:
        console.print(table)
    counts = Counter(f.verdict for f in findings)
    console.print(f"{results}: " + ", ".join(f"{counts[v]} {v}" for v in reversed(VERDICTS) if counts[v]), highlight=False)


def audit_json(results: Path, findings: Sequence[Finding]) -> str:
    """Return the audit as JSON."""
    rows = [
        {"path": f.name, "rule": f.rule, "verdict": f.verdict, "reasons": [{"verdict": v, "why": why} for v, why in f.reasons]}
        for f in findings
    ]
    return json.dumps({"results": str(results), "verdicts": dict(Counter(f.verdict for f in findings)), "findings": rows}, indent=1)


def print_difference(difference: Difference, console: Console) -> None:
    """Print a difference, from the number to the first cause."""
    if (number := difference.number) is None:
        console.print("No number in any table differs.")
    else:
        spread = "inside" if number.within_spread else "outside"
        console.print(
            f"{difference.n_numbers} numbers differ. The first: {number.table}, {number.row}, {number.condition}, {number.metric}: "
            f"{number.before:.4f} in A, {number.after:.4f} in B ({number.after - number.before:+.4f}), {spread} A's 95 % interval "
            f"{number.low:.2f} to {number.high:.2f}.",
            markup=False,
            highlight=False,
        )
    if difference.steps:
        console.print("Outputs that differ, in order: " + " → ".join(difference.steps), markup=False, highlight=False)
    if not difference.causes:
        console.print("No cause: code, settings, packages, machine and inputs are the same as in A in every step.")
    for cause in difference.causes:
        console.print(f"First cause ({cause.kind}) at {cause.name}: {cause.what}", markup=False, highlight=False)
