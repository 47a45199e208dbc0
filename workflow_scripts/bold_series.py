"""Mask, denoise and z-score a subject's runs. Run by hand: `python -m workflow_scripts.bold_series --help`."""

from pathlib import Path

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "bold.clip_sigma bold.motion bold.signal bold.smoothing_fwhm bold.tissue datasets.*.adapter datasets.*.bids_dir "
    "datasets.*.derivatives_dir datasets.*.description_column datasets.*.entities datasets.*.lead_in datasets.*.session "
    "datasets.*.stimulus_column datasets.*.stimulus_manifest datasets.*.task preprocessing.engine preprocessing.resolution "
    "preprocessing.space"
)


@program("bold_series", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    subject: str,
    derivatives: Input,
    raw: Inputs,
    checked: Input,
    series: Output,
    voxels: Output,
    displacement: Output,
) -> None:
    """Mask, denoise and z-score a subject's runs."""
    from boldscribe.data.checked import read_checked
    from boldscribe.data.series import write_series

    design = config.datasets[dataset]
    write_series(
        config,
        design,
        dataset,
        subject,
        Path(design.derivatives_dir or "") if config.preprocessing.engine == "derivatives" else derivatives.parent,
        series,
        lead_in=read_checked(checked).lead_in,
    )


if __name__ == "__main__":
    main()
