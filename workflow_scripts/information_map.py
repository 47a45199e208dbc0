"""Map the information about the clips in the brain. Run by hand: `python -m workflow_scripts.information_map --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "adaptor.activation adaptor.rank adaptor.scale bold.n_volumes datasets.*.simulated datasets.*.validation_subjects "
    "sc_mbm.depth sc_mbm.dim sc_mbm.mlp_ratio sc_mbm.n_heads seed stage1.dropout stimuli.n_frames tokenizer.channels "
    "tokenizer.grid tokenizer.token_maps training.precision video_llama.connectors video_llama.q_former.hidden_size "
    "video_llama.q_former.n_heads video_llama.q_former.n_queries video_llama.q_former.video_layers"
)


@program("information_map", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    series: Inputs,
    voxels: Inputs,
    trials: Inputs,
    labels: Inputs,
    features: Inputs,
    stage1: Input,
    models: Inputs,
    map: Output,
    about: Output,
) -> None:
    """Map the information about the clips in the brain."""
    from boldscribe.evaluation.information_map import write_information_map

    write_information_map(
        config,
        dataset,
        series=series,
        trials=trials,
        labels=labels,
        features=features,
        stage1_dir=stage1,
        image=map,
        about=about,
    )


if __name__ == "__main__":
    main()
