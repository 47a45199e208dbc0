"""Score a target subject's decoded texts. Run by hand: `python -m workflow_scripts.scores --help`."""

from boldscribe.config import Config
from boldscribe.evaluation.scores import write_scores
from boldscribe.provenance.program import Files, program

INPUTS = {"decoded": "texts of each condition", "captions": "reference captions of the test shards", "models": "model folders"}
OUTPUTS = {"scores": "scores of each condition"}


@program("scores", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Score a target subject's decoded texts."""
    write_scores(
        config,
        dataset,
        subject,
        decoded=inputs["decoded"],
        captions=inputs["captions"],
        models_dir=inputs["models"][0].parent,
        outputs=outputs["scores"],
    )


if __name__ == "__main__":
    main()
