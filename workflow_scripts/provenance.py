"""Close the ledger and write the provenance page. Run by hand: `python -m workflow_scripts.provenance --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"report": "the report, the last of the results"}
OUTPUTS = {"html": "the page"}


@program("provenance", inputs=INPUTS, outputs=OUTPUTS)
def main(config: Config, inputs: Files, outputs: Files) -> None:
    """Close the ledger and write a browsable page with the origin of each result."""
    from boldscribe.reporting.lineage import write_lineage

    write_lineage(outputs.one("html"))


if __name__ == "__main__":
    main()
