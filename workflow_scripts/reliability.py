"""Measure how well responses to the same clip agree: the noise ceiling. Run by hand: `python -m workflow_scripts.reliability --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of all subjects",
    "voxels": "places of their voxels, next to the series",
    "trials": "their trial indices",
    "labels": "their labels",
}
OUTPUTS = {"reliability": "agreement of responses to the same clip (.csv)"}


@program("reliability", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Measure how well responses to the same clip agree: the noise ceiling."""
    from boldscribe.evaluation.reliability import write_reliability

    write_reliability(dataset, series=inputs["series"], trials=inputs["trials"], labels=inputs["labels"], output=outputs.one("reliability"))


if __name__ == "__main__":
    main()
