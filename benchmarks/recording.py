"""What recording costs: seconds that the recorder took, as a share of each rule's time in a finished run.

`python -m benchmarks.recording results/demo`. A rule's time is that of its jobs by the ledger, with what recording took.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from boldscribe.machinery.provenance.ledger import read_ledger


def shares(results: Path) -> pd.DataFrame:
    """Rule, its jobs, their time (s), the recorder's part of it (s), and its share (%)."""
    entries = [e for e in read_ledger(results).entries if e["exit"] == "completed"]
    jobs = pd.DataFrame([{"rule": e["rule"], "work": e["usage"]["wall_seconds"], "recording": e["recording_seconds"]} for e in entries])
    table = jobs.groupby("rule").agg(jobs=("work", "size"), seconds=("work", "sum"), recording=("recording", "sum"))
    table["seconds"] += table["recording"]
    table.loc["all"] = table.sum()
    return table.assign(share=100 * table["recording"] / table["seconds"]).sort_values("seconds", ascending=False)


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(results: Path) -> None:
    """Print the table of a finished run."""
    click.echo(shares(results).round(2).to_string())


if __name__ == "__main__":
    main()
