"""Close the ledger and write the provenance page. Run by hand: `python -m workflow_scripts.provenance --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = ""


@program("provenance", settings=SETTINGS)
def main(config: Config, report: Inputs, html: Output) -> None:
    """Close the ledger and write a browsable page with the origin of each result."""
    from boldscribe.report.lineage import write_lineage

    write_lineage(html)


if __name__ == "__main__":
    main()
