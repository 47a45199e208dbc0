"""Report the data quality of each subject. Run by hand: `python -m workflow_scripts.quality --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of all subjects",
    "displacement": "framewise displacement of all subjects, next to the series",
    "trials": "trial indices of all subjects",
    "excluded": "excluded trials of all subjects",
    "checked": "findings of the check of the data set",
}
OUTPUTS = {"csv": "one row per subject (CSV)"}


@program("quality", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Report the data quality of each subject."""
    from boldscribe.evaluation.quality import write_quality

    write_quality(
        config,
        dataset,
        series=inputs["series"],
        displacement=inputs["displacement"],
        trials=inputs["trials"],
        excluded=inputs["excluded"],
        checked=inputs.one("checked"),
        csv=outputs.one("csv"),
    )


if __name__ == "__main__":
    main()
