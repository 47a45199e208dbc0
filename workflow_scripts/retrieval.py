"""Score how well fMRI tokens retrieve the clips of target subjects' test trials.

Run by hand: `python -m workflow_scripts.retrieval --help`.
"""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = (
    "datasets.*.validation_subjects evaluation.permutations seed video_llama.connectors video_llama.q_former.hidden_size "
    "video_llama.q_former.n_heads video_llama.q_former.n_queries video_llama.q_former.video_layers"
)


@program("retrieval", settings=SETTINGS)
def main(config: Config, dataset: str, tokens: Inputs, labels: Inputs, features: Inputs, models: Inputs, csv: Output) -> None:
    """Score how well fMRI tokens retrieve the clips of target subjects' test trials."""
    from boldscribe.evaluation.retrieval import write_retrieval

    write_retrieval(
        config,
        dataset,
        tokens=tokens,
        labels=labels,
        features=features,
        csv=csv,
    )


if __name__ == "__main__":
    main()
