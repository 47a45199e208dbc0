"""Score the decoded texts of a data set. Run by hand: `python -m workflow_scripts.scores --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = "evaluation.bertscore_baseline evaluation.bertscore_layer evaluation.bertscore_model evaluation.identification_ways"


@program("scores", settings=SETTINGS)
def main(config: Config, dataset: str, decoded: Inputs, captions: Inputs, models: Inputs, scores: Output, pairs: Output) -> None:
    """Score the decoded texts of a data set."""
    from boldscribe.evaluation.scores import write_scores

    write_scores(
        config,
        decoded=decoded,
        captions=captions,
        models_dir=models[0].parent,
        scores=scores,
        pairs=pairs,
    )


if __name__ == "__main__":
    main()
