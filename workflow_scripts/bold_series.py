"""Mask, denoise and z-score a subject's runs. Run by hand: `python -m workflow_scripts.bold_series --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "derivatives": "the subject's folder of derivatives",
    "raw": "events: the subject's raw data, or the manifest of the data set",
    "checked": "what the check found",
}
OUTPUTS = {
    "series": "cleaned series (.npy)",
    "voxels": "place of each voxel in the grid (.npy), next to the series",
    "displacement": "framewise displacement (.npy), next to the series",
}


@program("bold_series", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Mask, denoise and z-score a subject's runs."""
    from boldscribe.bids.checked import read_checked
    from boldscribe.bold.series import write_series

    write_series(
        config,
        config.datasets[dataset],
        dataset,
        subject,
        inputs.one("derivatives").parent,
        outputs.one("series"),
        lead_in=read_checked(inputs.one("checked")).lead_in,
    )


if __name__ == "__main__":
    main()
