"""Report what the test trials share with training. Run by hand: `python -m workflow_scripts.leakage --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

INPUTS = "trials labels source_captions test_captions"
SETTINGS = "datasets.*.simulated datasets.*.split datasets.*.title datasets.*.train_subjects datasets.*.validation_subjects"


@program("leakage", settings=SETTINGS, inputs=INPUTS)
def main(config: Config, dataset: str, json: Output, md: Output, **inputs: Inputs) -> None:
    """Report what the test trials share with training."""
    from boldscribe.evaluation.leakage import write_leakage

    write_leakage(
        config,
        dataset,
        **{name: inputs[name] for name in INPUTS},
        json=json,
        md=md,
    )


if __name__ == "__main__":
    main()
