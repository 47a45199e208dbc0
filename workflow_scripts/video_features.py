"""Encode frames with the frozen visual encoder and image Q-Former. Run by hand: `python -m workflow_scripts.video_features --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"frames": "frames (.npy)", "models": "model folders"}
OUTPUTS = {"features": "tokens (.npy)"}


@program("video_features", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "split", "shard"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, split: str, shard: str) -> None:
    """Encode frames with the frozen visual encoder and image Q-Former."""
    from boldscribe.stimuli.features import write_features

    write_features(config, frames=inputs.one("frames"), models_dir=inputs["models"][0].parent, output=outputs.one("features"))


if __name__ == "__main__":
    main()
