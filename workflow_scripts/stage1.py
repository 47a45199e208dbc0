"""Stage I: align the fMRI tokens with the video tokens of the same clip. Run by hand: `python -m workflow_scripts.stage1 --help`."""

from pathlib import Path

from boldscribe.workflow import Config, Input, Inputs, Output, program

STAGED = ("series",)  # read in every epoch
SETTINGS = (
    "adaptor bold.n_volumes datasets.*.train_subjects sc_mbm seed stage1 stimuli.n_frames tokenizer training.compile "
    "training.precision video_llama.connectors video_llama.q_former.hidden_size video_llama.q_former.n_heads "
    "video_llama.q_former.n_queries video_llama.q_former.video_layers"
)


@program("stage1", settings=SETTINGS, stage=STAGED, shut=True)
def main(
    config: Config,
    dataset: str,
    encoder: str,
    series: Inputs,
    voxels: Inputs,
    trials: Inputs,
    labels: Inputs,
    features: Inputs,
    sc_mbm: Input,
    models: Inputs,
    folder: Output,
    work: Path,
) -> None:
    """Stage I: align the fMRI tokens with the video tokens of the same clip."""
    from boldscribe.training.stage1 import train_stage1

    train_stage1(
        config,
        dataset,
        encoder,
        series=series,
        trials=trials,
        labels=labels,
        features=features,
        sc_mbm=sc_mbm,
        output_dir=folder,
        work_dir=work,
    )


if __name__ == "__main__":
    main()
