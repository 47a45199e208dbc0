"""Check a raw data set before compute is spent. Run by hand: `python -m workflow_scripts.check_dataset --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = (
    "bold.delay bold.motion bold.n_volumes bold.signal bold.tissue datasets.*.adaptation_runs datasets.*.adapter datasets.*.bids_dir "
    "datasets.*.derivatives_dir datasets.*.description_column datasets.*.entities datasets.*.fold_of datasets.*.lead_in "
    "datasets.*.leave_out datasets.*.missing_runs datasets.*.session datasets.*.split datasets.*.stimuli_dir "
    "datasets.*.stimulus_column datasets.*.stimulus_manifest datasets.*.strict_test_share datasets.*.task datasets.*.test_runs "
    "datasets.*.train_subjects datasets.*.validation_subjects preprocessing.engine preprocessing.resolution preprocessing.space seed "
    "stimuli.largest_broken_share"
)


@program("check_dataset", settings=SETTINGS)
def main(config: Config, dataset: str, raw: Inputs, report: Output, threads: int) -> None:
    """Check a raw data set before compute is spent."""
    from boldscribe.data.checks import validate_raw
    from boldscribe.machinery.files import write_json

    write_json(report, validate_raw(config, dataset, threads))


if __name__ == "__main__":
    main()
