"""Clean the series of a pretraining-only subject. Run by hand: `python -m workflow_scripts.pretraining_series --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "derivatives": "the subject's folder of derivatives",
    "manifest": "manifest of the derivatives",
    "checked": "the grid that they were found on",
}
OUTPUTS = {
    "series": "cleaned series (.npy)",
    "voxels": "place of each voxel in the grid (.npy), next to the series",
    "displacement": "framewise displacement (.npy), next to the series",
}


@program("pretraining_series", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Mask, denoise and z-score the runs of a pretraining-only subject."""
    from boldscribe.bold.series import write_series

    design, folder = config.pretraining[dataset], inputs.one("derivatives").parent
    write_series(config, design, dataset, subject, folder, outputs.one("series"), seconds_per_volume=design.seconds_per_volume)


if __name__ == "__main__":
    main()
