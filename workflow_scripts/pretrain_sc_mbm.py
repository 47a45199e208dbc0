"""Pretrain SC-MBM on BOLD of source subjects and others. Run by hand: `python -m workflow_scripts.pretrain_sc_mbm --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of the source subjects",
    "voxels": "places of their voxels, next to the series",
    "trials": "their trial indices",
    "models": "model folders",
}
OUTPUTS = {"weights": "safetensors", "curve": "learning curve (.csv)"}
STAGED = ("series", "further")  # read in every epoch


@program("pretrain_sc_mbm", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",), work=True, stage=STAGED, shut=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, work: Path) -> None:
    """Pretrain by masked brain modelling on BOLD of source subjects and of people who are in no table."""
    from boldscribe.bold.placement import voxels_path
    from boldscribe.training.pretrain import pretrain_sc_mbm
    from boldscribe.training.pretraining_data import further_series

    further = further_series(config)  # more than a thousand: too many for a command line
    inputs.use("further_voxels", map(voxels_path, further))  # first: only files declared by then are linked next to a copy
    inputs.use("further", further)
    pretrain_sc_mbm(
        config,
        dataset,
        series=inputs["series"],
        trials=inputs["trials"],
        further=inputs["further"],
        weights=outputs.one("weights"),
        curve=outputs.one("curve"),
        work_dir=work,
    )


if __name__ == "__main__":
    main()
