"""Check a raw data set before compute is spent. Run by hand: `python -m workflow_scripts.check_dataset --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"raw": "raw data, or the manifest of the data set"}
OUTPUTS = {"report": "what was checked, as JSON"}


@program("check_dataset", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",), resources=("threads",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, threads: int) -> None:
    """Check a raw data set before compute is spent."""
    from boldscribe.bids import validate_raw
    from boldscribe.files import write_json

    write_json(outputs.one("report"), validate_raw(config, dataset, threads))


if __name__ == "__main__":
    main()
