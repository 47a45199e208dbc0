"""Report the data quality of each subject. Run by hand: `python -m workflow_scripts.quality --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = "bold.framewise_displacement datasets.*.train_subjects datasets.*.validation_subjects"


@program("quality", settings=SETTINGS)
def main(
    config: Config, dataset: str, series: Inputs, displacement: Inputs, trials: Inputs, excluded: Inputs, checked: Input, csv: Output
) -> None:
    """Report the data quality of each subject."""
    from boldscribe.evaluation.quality import write_quality

    write_quality(
        config,
        dataset,
        series=series,
        displacement=displacement,
        trials=trials,
        excluded=excluded,
        checked=checked,
        csv=csv,
    )


if __name__ == "__main__":
    main()
