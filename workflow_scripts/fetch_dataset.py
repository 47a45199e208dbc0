"""Fetch a measured data set, and check that it exists. Run by hand: `python -m workflow_scripts.fetch_dataset --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"marker": "what was found, with the digest of each raw file, as JSON"}


@program("fetch_dataset", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",), network=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Fetch the missing files of a measured data set, and check that it exists."""
    from boldscribe.bids import raw_manifest
    from boldscribe.fetching.datasets import complete_dataset
    from boldscribe.files import write_json

    source = complete_dataset(config, dataset)
    write_json(outputs.one("marker"), raw_manifest(config, dataset) | {"source": source})


if __name__ == "__main__":
    main()
