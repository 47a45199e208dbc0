"""Index a subject's trials, with labels in a separate file. Run by hand: `python -m workflow_scripts.trials --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "bold.delay bold.framewise_displacement bold.n_volumes bold.signal captioner.kind datasets.*.adaptation_runs datasets.*.adapter "
    "datasets.*.bids_dir datasets.*.description_column datasets.*.description_file datasets.*.entities datasets.*.fold_of "
    "datasets.*.missing_responses datasets.*.repeats datasets.*.session datasets.*.stimulus_column datasets.*.stimulus_manifest "
    "datasets.*.task datasets.*.test_runs datasets.*.train_subjects datasets.*.validation_subjects seed video_llama.instructions"
)


@program("trials", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    subject: str,
    raw: Inputs,
    series: Input,
    displacement: Inputs,
    checked: Input,
    trials: Output,
    labels: Output,
    excluded: Output,
) -> None:
    """Index a subject's trials, with labels in a separate file."""
    from boldscribe.data.trials import write_trials

    write_trials(
        config,
        dataset,
        subject,
        series=series,
        checked=checked,
        trials=trials,
        labels=labels,
        excluded=excluded,
    )


if __name__ == "__main__":
    main()
