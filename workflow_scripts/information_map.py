"""Map the information about the clips in the brain. Run by hand: `python -m workflow_scripts.information_map --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "series": "cleaned series of the target subjects",
    "voxels": "places of their voxels, next to the series",
    "trials": "their trial indices",
    "labels": "their labels",
    "features": "frozen video features of the test clips",
    "stage1": "folder of Stage I",
    "models": "model folders",
}
OUTPUTS = {"map": "map in the grid of the series (NIfTI)", "about": "description and checks of the map (JSON)"}


@program("information_map", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Map the information about the clips in the brain."""
    from boldscribe.evaluation.information_map import write_information_map

    write_information_map(
        config,
        dataset,
        series=inputs["series"],
        trials=inputs["trials"],
        labels=inputs["labels"],
        features=inputs["features"],
        stage1_dir=inputs.one("stage1"),
        image=outputs.one("map"),
        about=outputs.one("about"),
    )


if __name__ == "__main__":
    main()
