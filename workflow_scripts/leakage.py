"""Report what the test trials share with training. Run by hand: `python -m workflow_scripts.leakage --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = "datasets.*.simulated datasets.*.split datasets.*.title datasets.*.train_subjects datasets.*.validation_subjects"


@program("leakage", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    trials: Inputs,
    labels: Inputs,
    source_captions: Inputs,
    test_captions: Inputs,
    json: Output,
    md: Output,
) -> None:
    """Report what the test trials share with training."""
    from boldscribe.evaluation.leakage import write_leakage

    write_leakage(
        config,
        dataset,
        trials=trials,
        labels=labels,
        source_captions=source_captions,
        test_captions=test_captions,
        json=json,
        md=md,
    )


if __name__ == "__main__":
    main()
