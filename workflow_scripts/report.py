"""Write the report. Run by hand: `python -m workflow_scripts.report --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "tables": "tables",
    "differences": "differences",
    "tests": "tests",
    "left_out": "excluded trials",
    "markdown": "tables as Markdown, to download",
    "latex": "tables as LaTeX, to download",
    "scores": "scores of all conditions",
    "labels": "labels of all subjects",
    "frames": "frames of the test clips",
    "stages": "folders of Stage I and II",
    "sc_mbm": "pretraining curves",
    "retrieval": "Stage I retrieval",
    "maps": "information maps",
    "reliability": "reliability of responses to repeated clips",
    "quality": "data quality",
    "leakage": "leakage reports (.json)",
}
OUTPUTS = {"html": "the page"}


@program("report", inputs=INPUTS, outputs=OUTPUTS, wildcards=())
def main(config: Config, inputs: Files, outputs: Files) -> None:
    """Write the report."""
    from boldscribe.reporting.page import write_report

    write_report(config, {name: inputs[name] for name in INPUTS}, outputs.one("html"))


if __name__ == "__main__":
    main()
