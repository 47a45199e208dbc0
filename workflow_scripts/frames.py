"""Extract the frames of a shard of clips. Run by hand: `python -m workflow_scripts.frames --help`."""

from boldscribe.config import Config
from boldscribe.content_cache import ContentCache
from boldscribe.provenance.program import Files, program

INPUTS = {
    "raw": "folder of the clips, or the manifest of the data set",
    "trials": "trial indices (.parquet)",
    "labels": "labels (.parquet)",
}
OUTPUTS = {"frames": "frames (.npy)"}


@program("frames", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "split", "shard"), resources=("threads",), cache=True)
def main(
    config: Config, inputs: Files, outputs: Files, dataset: str, split: str, shard: str, threads: int, cache: ContentCache | None
) -> None:
    """Extract the frames of a shard of clips."""
    from boldscribe.stimuli.shards import write_frames

    write_frames(
        config,
        dataset,
        split,
        int(shard),
        trials=inputs["trials"],
        labels=inputs["labels"],
        output=outputs.one("frames"),
        workers=threads,
        cache=cache,
    )


if __name__ == "__main__":
    main()
