"""Decode a target subject's test trials under one condition. Run by hand: `python -m workflow_scripts.decode --help`."""

from boldscribe.config import Config
from boldscribe.decoding import decode
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series",
    "voxels": "places of its voxels, beside the series",
    "trials": "trial index",
    "tokens": "fMRI tokens of the test trials",
    "stage1": "folder of Stage I",
    "stage2": "folder of Stage II",
    "models": "model folders",
}
OUTPUTS = {"decoded": "texts (.parquet)"}


@program("decode", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject", "condition"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str, condition: str) -> None:
    """Decode a target subject's test trials under one condition."""
    decode(
        config,
        dataset,
        subject,
        condition,
        series=inputs.one("series"),
        trials=inputs.one("trials"),
        tokens=inputs.one("tokens"),
        stage1_dir=inputs.one("stage1"),
        stage2_dir=inputs.one("stage2"),
        models_dir=inputs["models"][0].parent,
        output=outputs.one("decoded"),
    )


if __name__ == "__main__":
    main()
