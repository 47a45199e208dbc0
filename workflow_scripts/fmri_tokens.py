"""Encode all trials of a role with the frozen encoder of Stage I. Run by hand: `python -m workflow_scripts.fmri_tokens --help`."""

from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "adaptor.activation adaptor.rank adaptor.scale bold.n_volumes sc_mbm.depth sc_mbm.dim sc_mbm.mlp_ratio sc_mbm.n_heads "
    "stage1.dropout stimuli.n_frames tokenizer.channels tokenizer.grid tokenizer.token_maps training.precision video_llama.connectors "
    "video_llama.q_former.hidden_size video_llama.q_former.n_heads video_llama.q_former.n_queries video_llama.q_former.video_layers"
)


@program("fmri_tokens", settings=SETTINGS, shut=True)
def main(
    config: Config,
    dataset: str,
    encoder: str,
    data: str,
    role: str,
    series: Inputs,
    voxels: Inputs,
    trials: Inputs,
    stage1: Input,
    models: Inputs,
    tokens: Output,
) -> None:
    """Encode all trials of a role with the frozen encoder of Stage I."""
    from boldscribe.models.encoding import write_fmri_tokens

    write_fmri_tokens(
        config,
        role,
        series=series,
        trials=trials,
        stage1_dir=stage1,
        output=tokens,
    )


if __name__ == "__main__":
    main()
