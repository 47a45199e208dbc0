"""Draw noise that replaces a subject's BOLD. Run by hand: `python -m workflow_scripts.noise_series --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = "seed"


@program("noise_series", settings=SETTINGS, shut=True)
def main(
    config: Config,
    dataset: str,
    subject: str,
    series: Input,
    voxels: Inputs,
    trials: Input,
    noise: Output,
    noise_voxels: Output,
    noise_trials: Output,
) -> None:
    """Draw noise that replaces a subject's BOLD."""
    from boldscribe.data.noise import write_noise_series

    write_noise_series(
        config,
        dataset,
        subject,
        series=series,
        trials=trials,
        noise=noise,
        noise_trials=noise_trials,
    )


if __name__ == "__main__":
    main()
