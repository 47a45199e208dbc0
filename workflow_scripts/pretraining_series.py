"""Clean the series of a pretraining-only subject. Run by hand: `python -m workflow_scripts.pretraining_series --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "bold.clip_sigma bold.motion bold.signal bold.smoothing_fwhm bold.tissue preprocessing.resolution preprocessing.space "
    "pretraining.*.seconds_per_volume pretraining.*.session pretraining.*.task"
)


@program("pretraining_series", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    subject: str,
    derivatives: Input,
    manifest: Inputs,
    checked: Inputs,
    series: Output,
    voxels: Output,
    displacement: Output,
) -> None:
    """Mask, denoise and z-score the runs of a pretraining-only subject."""
    from boldscribe.data.series import write_series

    design, folder = config.pretraining[dataset], derivatives.parent
    write_series(config, design, dataset, subject, folder, series, seconds_per_volume=design.seconds_per_volume)


if __name__ == "__main__":
    main()
