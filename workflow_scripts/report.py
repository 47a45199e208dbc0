"""Write the report. Run by hand: `python -m workflow_scripts.report --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program
from boldscribe.reporting.page import write_report

INPUTS = {
    "tables": "tables",
    "differences": "differences",
    "left_out": "trials that are left out",
    "scores": "scores",
    "labels": "labels of all subjects",
    "frames": "frames of the test clips",
    "stages": "folders of Stage I and II",
    "sc_mbm": "pretraining curves",
}
OUTPUTS = {"html": "the page"}


@program("report", inputs=INPUTS, outputs=OUTPUTS, wildcards=())
def main(config: Config, inputs: Files, outputs: Files) -> None:
    """Write the report."""
    write_report(
        config,
        tables=inputs["tables"],
        differences=inputs["differences"],
        left_out=inputs["left_out"],
        scores=inputs["scores"],
        labels=inputs["labels"],
        frames=inputs["frames"],
        stages=inputs["stages"],
        sc_mbm=inputs["sc_mbm"],
        output=outputs.one("html"),
    )


if __name__ == "__main__":
    main()
