"""Stage II: train the bridge through the frozen LLM, with domain adaptation. Run by hand: `python -m workflow_scripts.stage2 --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program
from boldscribe.training.stage2 import train_stage2

INPUTS = {
    "series": "cleaned series of the source subjects",
    "voxels": "places of their voxels, beside the series",
    "trials": "their trial indices",
    "labels": "their labels",
    "captions": "their pseudo-captions",
    "target_series": "series of the target subjects",
    "target_voxels": "places of their voxels, beside the series",
    "target_trials": "their unlabelled trials",
    "stage1": "folder of Stage I",
    "models": "model folders",
}
OUTPUTS = {"folder": "trained bridge"}


@program("stage2", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",), work=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, work: Path) -> None:
    """Stage II: train the bridge through the frozen LLM, with domain adaptation."""
    train_stage2(
        config,
        dataset,
        series=inputs["series"],
        trials=inputs["trials"],
        labels=inputs["labels"],
        captions=inputs["captions"],
        target_series=inputs["target_series"],
        target_trials=inputs["target_trials"],
        stage1_dir=inputs.one("stage1"),
        models_dir=inputs["models"][0].parent,
        output_dir=outputs.one("folder"),
        work_dir=work,
    )


if __name__ == "__main__":
    main()
