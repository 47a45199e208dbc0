"""Encode frames with the frozen visual encoder and image Q-Former. Run by hand: `python -m workflow_scripts.video_features --help`."""

from boldscribe.workflow import Config, Files, Input, Inputs, Output, program

SETTINGS = (
    "video_llama.connectors video_llama.q_former.hidden_size video_llama.q_former.image_layers video_llama.q_former.n_heads "
    "video_llama.q_former.n_queries video_llama.visual_encoder"
)


@program("video_features", settings=SETTINGS)
def main(config: Config, dataset: str, split: str, shard: str, frames: Input, models: Inputs, features: Output, files: Files) -> None:
    """Encode frames with the frozen visual encoder and image Q-Former."""
    from boldscribe.stimuli.familiarity import familiar_files
    from boldscribe.stimuli.features import write_features

    files.use("familiar", familiar_files(config.video_llama.connectors))
    write_features(config, frames=frames, models_dir=models[0].parent, output=features)


if __name__ == "__main__":
    main()
