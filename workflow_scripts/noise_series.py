"""Draw noise that replaces a subject's BOLD. Run by hand: `python -m workflow_scripts.noise_series --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"series": "cleaned series", "voxels": "places of its voxels, next to the series", "trials": "trial index"}
OUTPUTS = {"noise": "series of noise", "noise_voxels": "places of its voxels", "noise_trials": "trial index that points to it"}


@program("noise_series", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"), shut=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Draw noise that replaces a subject's BOLD."""
    from boldscribe.bold.noise import write_noise_series

    write_noise_series(
        config,
        dataset,
        subject,
        series=inputs.one("series"),
        trials=inputs.one("trials"),
        noise=outputs.one("noise"),
        noise_trials=outputs.one("noise_trials"),
    )


if __name__ == "__main__":
    main()
