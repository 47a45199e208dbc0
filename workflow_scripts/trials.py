"""Index a subject's trials, with labels in a separate file. Run by hand: `python -m workflow_scripts.trials --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "raw": "the subject's raw data, or the manifest of the data set",
    "series": "cleaned series (.npy)",
    "displacement": "framewise displacement (.npy), next to the series",
    "checked": "what the check found",
}
OUTPUTS = {
    "trials": "trial index (.parquet)",
    "labels": "stimulus, action and source of each trial (.parquet)",
    "excluded": "excluded trials, with the reason (.parquet)",
}


@program("trials", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Index a subject's trials, with labels in a separate file."""
    from boldscribe.bold.trials import write_trials

    write_trials(
        config,
        dataset,
        subject,
        series=inputs.one("series"),
        checked=inputs.one("checked"),
        trials=outputs.one("trials"),
        labels=outputs.one("labels"),
        excluded=outputs.one("excluded"),
    )


if __name__ == "__main__":
    main()
