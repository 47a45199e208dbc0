"""Score the decoded texts of a data set. Run by hand: `python -m workflow_scripts.scores --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = {
    "": "evaluation.bertscore_baseline evaluation.bertscore_layer evaluation.bertscore_model evaluation.identification_ways",
    "_descriptions": (
        "datasets.*.adapter datasets.*.description_file datasets.*.fold_of datasets.*.stimulus_manifest evaluation.bertscore_baseline "
        "evaluation.bertscore_layer evaluation.bertscore_model evaluation.identification_ways seed"
    ),
}
BY = "references"  # which of them


@program("scores", settings=SETTINGS, by=BY)
def main(
    config: Config,
    dataset: str,
    references: str,
    decoded: Inputs,
    captions: Inputs,
    descriptions: Inputs,
    models: Inputs,
    scores: Output,
    pairs: Output,
) -> None:
    """Score the decoded texts of a data set against captions, or against people's sentences."""
    from boldscribe.evaluation.scores import write_scores

    write_scores(
        config,
        decoded=decoded,
        captions=captions,
        models_dir=models[0].parent,
        scores=scores,
        pairs=pairs,
        described=dataset if references else None,
    )


if __name__ == "__main__":
    main()
