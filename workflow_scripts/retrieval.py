"""Score how well fMRI tokens retrieve the clips of target subjects' test trials.

Run by hand: `python -m workflow_scripts.retrieval --help`.
"""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "tokens": "fMRI tokens of the test trials, by each encoder",
    "labels": "labels of the target subjects' trials",
    "features": "frozen video features of the test clips",
    "models": "model folders",
}
OUTPUTS = {"csv": "retrieval by subject, encoder and metric (CSV)"}


@program("retrieval", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Score how well fMRI tokens retrieve the clips of target subjects' test trials."""
    from boldscribe.evaluation.retrieval import write_retrieval

    write_retrieval(
        config,
        dataset,
        tokens=inputs["tokens"],
        labels=inputs["labels"],
        features=inputs["features"],
        csv=outputs.one("csv"),
    )


if __name__ == "__main__":
    main()
