"""Messages at the end of a run, and their recipient."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

from boldscribe.machinery.runs.failures import summary
from boldscribe.machinery.runs.schedule import duration
from boldscribe.machinery.runs.status import DONE, Overview

NOTIFY = "BOLDSCRIBE_NOTIFY"


def success_message(overview: Overview, started: datetime) -> str:
    """Format the message of a run that has made everything it was asked for."""
    entries = [e for e in overview.finished if datetime.fromisoformat(e["ended"]) >= started]
    took = duration((datetime.now(UTC) - started).total_seconds())
    again = sum(e["attempt"] > 1 for e in entries)
    lines = [f"Done in {took}: {len(entries)} jobs" + (f", {again} of them not on the first attempt." if again else ".")]
    made = {o["path"] for e in entries for o in e["outputs"]}
    results = overview.results
    ends = [
        ("tables", sorted(name for name in made if name.startswith("tables/") and name.endswith(".md"))),
        ("report", ["report.html"]),
        ("lineage", ["provenance.html"]),
    ]
    for title, names in ends:
        if found := [str(results / name) for name in names if name in made]:
            lines.append(f"  {title + ':':9}{', '.join(found)}")
    if len(lines) == 1 and entries:
        rules = Counter(e["rule"] for e in entries)
        lines.append(f"  made:    {', '.join(f'{n} of {rule}' for rule, n in rules.items())}")
    if left := sum(s.state != DONE for s in overview.states):
        lines.append(f"  {left} jobs requested by earlier runs are not done. `boldscribe status {results}` lists them.")
    lines.append(f"Next: boldscribe audit {results}    # are all files unchanged and up to date?")
    if f"tables/{overview.config.whole_datasets[0]}.md" in made:
        table = results / "tables" / f"{overview.config.whole_datasets[0]}.csv"
        lines.append(f"      boldscribe explain {table} --row Total --column bertscore    # where a number comes from")
    return "\n".join(lines)


def failure_message(overview: Overview, started: datetime) -> str:
    """Format the message of a failed run: only failures of this run, since `boldscribe status` shows those of earlier ones."""
    failed = [s.failure for s in overview.states if s.failure and s.since and s.since >= started] or overview.failures()
    counts = overview.counts()
    took = duration((datetime.now(UTC) - started).total_seconds())
    lines = [f"Stopped after {took}: {len(failed)} failed, {counts[DONE]} of {len(overview.states)} jobs are done.", ""]
    lines += summary(failed)
    if not failed:
        lines.append("No job reported a failure; Snakemake's message above shows what stopped the run.")
    lines.append(
        f"The same command continues from the completed jobs. `boldscribe status {overview.results}` shows the table, with --failures "
        "this list."
    )
    return "\n".join(lines)


def notify(message: str) -> None:
    """Pass a message on standard input to the command that the environment variable BOLDSCRIBE_NOTIFY names.

    The command is split into words and run without a shell, so nothing in a message can become a command.
    """
    if not (command := os.environ.get(NOTIFY, "").strip()):
        return
    try:
        done = subprocess.run(shlex.split(command), input=message + "\n", text=True, capture_output=True, timeout=60, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"warning: {NOTIFY}: {command!r} could not be run: {error}", file=sys.stderr)
        return
    if done.returncode:
        print(f"warning: {NOTIFY}: {command!r} exited with code {done.returncode}: {done.stderr.strip()[-300:]}", file=sys.stderr)
