"""Score the decoded texts of a data set. Run by hand: `python -m workflow_scripts.scores --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"decoded": "texts of each condition", "captions": "reference captions of the test shards", "models": "model folders"}
OUTPUTS = {
    "scores": "scores of each condition, subject and trial",
    "pairs": "scores of each text against each reference of its instruction",
}


@program("scores", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Score the decoded texts of a data set."""
    from boldscribe.evaluation.scores import write_scores

    write_scores(
        config,
        decoded=inputs["decoded"],
        captions=inputs["captions"],
        models_dir=inputs["models"][0].parent,
        scores=outputs.one("scores"),
        pairs=outputs.one("pairs"),
    )


if __name__ == "__main__":
    main()
