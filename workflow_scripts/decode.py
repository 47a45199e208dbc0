"""Decode the target subjects' test trials under one condition. Run by hand: `python -m workflow_scripts.decode --help`."""

from boldscribe.config import Config
from boldscribe.models import share_llm
from boldscribe.provenance.program import Files, program

INPUTS = {
    "trials": "trial indices of the target subjects",
    "tokens": "fMRI tokens of their test trials",
    "adapt_tokens": "fMRI tokens of their adaptation trials",
    "train_tokens": "fMRI tokens of the source trials",
    "stage2": "folder of Stage II",
    "models": "model folders",
    "series": "cleaned series of the target subjects",
    "voxels": "places of their voxels, next to the series",
    "source_series": "cleaned series of the source subjects",
    "source_voxels": "places of their voxels, next to the series",
    "source_trials": "trial indices of the source subjects",
    "source_labels": "labels of the source subjects",
    "source_captions": "captions of the source clips",
    "best_captions": "best source caption of each instruction and action",
    "source_features": "features of the source clips",
    "test_labels": "labels of the target subjects",
    "captions_again": "second captions of the test clips",
}
OUTPUTS = {"decoded": "texts (.parquet)"}


@program("decode", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "condition"), shut=True, share=share_llm)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, condition: str) -> None:
    """Decode the target subjects' test trials under one condition."""
    from boldscribe.decoding.decode import Task, decode

    files = {name: inputs[name] for name in INPUTS if inputs[name]}
    decode(Task(config, dataset, condition, inputs["trials"], files), outputs.one("decoded"))


if __name__ == "__main__":
    main()
