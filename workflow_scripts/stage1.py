"""Stage I: align the fMRI tokens with the video tokens of the same clip. Run by hand: `python -m workflow_scripts.stage1 --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of the source subjects",
    "voxels": "places of their voxels, next to the series",
    "trials": "their trial indices",
    "labels": "their labels",
    "features": "tokens of their clips",
    "sc_mbm": "pretrained weights",
    "models": "model folders",
}
OUTPUTS = {"folder": "trained encoder"}
STAGED = ("series",)  # read in every epoch


@program("stage1", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "encoder"), work=True, stage=STAGED, shut=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, encoder: str, work: Path) -> None:
    """Stage I: align the fMRI tokens with the video tokens of the same clip."""
    from boldscribe.training.stage1 import train_stage1

    train_stage1(
        config,
        dataset,
        encoder,
        series=inputs["series"],
        trials=inputs["trials"],
        labels=inputs["labels"],
        features=inputs["features"],
        sc_mbm=inputs.one("sc_mbm"),
        output_dir=outputs.one("folder"),
        work_dir=work,
    )


if __name__ == "__main__":
    main()
