"""Caption the clips of a shard: one answer to each record's instruction. Run by hand: `python -m workflow_scripts.captions --help`."""

from boldscribe.config import Config
from boldscribe.models import share_llm
from boldscribe.provenance.program import Files, program

INPUTS = {
    "trials": "trial indices (.parquet)",
    "labels": "labels (.parquet)",
    "clips": "tokens of the clips for Video-LLaMA, their frames for a video-text model (.npy)",
    "models": "model folders",
}
OUTPUTS = {"captions": "pseudo-captions (.parquet)"}


@program("captions", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "split", "shard"), share=share_llm)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, split: str, shard: str) -> None:
    """Caption the clips of a shard: one answer to each record's instruction."""
    from boldscribe.stimuli.captions import write_captions

    write_captions(
        config,
        trials=inputs["trials"],
        labels=inputs["labels"],
        clips=inputs.one("clips"),
        models_dir=inputs["models"][0].parent,
        output=outputs.one("captions"),
    )


if __name__ == "__main__":
    main()
