"""Encode all trials of a role with the frozen encoder of Stage I. Run by hand: `python -m workflow_scripts.fmri_tokens --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of the role's subjects",
    "voxels": "places of their voxels, next to the series",
    "trials": "their trial indices",
    "stage1": "folder of Stage I",
    "models": "model folders",
}
OUTPUTS = {"tokens": "fMRI tokens (.npy)"}


@program("fmri_tokens", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "encoder", "data", "role"), shut=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, encoder: str, data: str, role: str) -> None:
    """Encode all trials of a role with the frozen encoder of Stage I."""
    from boldscribe.encoding import write_fmri_tokens

    write_fmri_tokens(
        config,
        role,
        series=inputs["series"],
        trials=inputs["trials"],
        stage1_dir=inputs.one("stage1"),
        output=outputs.one("tokens"),
    )


if __name__ == "__main__":
    main()
