"""Fetch a measured data set, and check that it exists. Run by hand: `python -m workflow_scripts.fetch_dataset --help`."""

from boldscribe.workflow import Config, Output, program

SETTINGS = (
    "datasets.*.adapter datasets.*.bids_dir datasets.*.derivatives_dir datasets.*.description_file datasets.*.entities datasets.*.manifest "
    "datasets.*.session datasets.*.simulated datasets.*.stimuli_dir datasets.*.stimulus_manifest datasets.*.task "
    "datasets.*.train_subjects datasets.*.validation_subjects preprocessing.engine preprocessing.space"
)


@program("fetch_dataset", settings=SETTINGS, network=True)
def main(config: Config, dataset: str, marker: Output) -> None:
    """Fetch the missing files of a measured data set, and check that it exists."""
    from boldscribe.data.checks import raw_manifest
    from boldscribe.fetching.datasets import complete_dataset
    from boldscribe.machinery.files import write_json

    source = complete_dataset(config, dataset)
    write_json(marker, raw_manifest(config, dataset) | {"source": source})


if __name__ == "__main__":
    main()
