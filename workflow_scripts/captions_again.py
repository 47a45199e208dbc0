"""Caption the test clips of a shard again with another seed. Run by hand: `python -m workflow_scripts.captions_again --help`."""

from boldscribe.config import Config
from boldscribe.models import share_llm
from boldscribe.provenance.program import Files, program

INPUTS = {
    "trials": "trial indices of the target subjects (.parquet)",
    "labels": "their labels (.parquet)",
    "clips": "tokens of the clips for Video-LLaMA, their frames for a video-text model (.npy)",
    "models": "model folders",
}
OUTPUTS = {"captions": "pseudo-captions (.parquet)"}


@program("captions_again", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "shard"), share=share_llm)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, shard: str) -> None:
    """Caption the test clips of a shard again, sampled with another seed."""
    from boldscribe.stimuli.captions import write_captions

    write_captions(
        config,
        trials=inputs["trials"],
        labels=inputs["labels"],
        clips=inputs.one("clips"),
        models_dir=inputs["models"][0].parent,
        output=outputs.one("captions"),
        again=True,
    )


if __name__ == "__main__":
    main()
