"""Extract the frames of a shard of clips. Run by hand: `python -m workflow_scripts.frames --help`."""

from boldscribe.machinery.content_cache import ContentCache
from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = "datasets.*.bids_dir datasets.*.stimuli_dir stimuli.n_frames stimuli.reader stimuli.shards stimuli.size"


@program("frames", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    split: str,
    shard: str,
    raw: Inputs,
    trials: Inputs,
    labels: Inputs,
    frames: Output,
    threads: int,
    cache: ContentCache | None,
) -> None:
    """Extract the frames of a shard of clips."""
    from boldscribe.stimuli.shards import write_frames

    write_frames(
        config,
        dataset,
        split,
        int(shard),
        trials=trials,
        labels=labels,
        output=frames,
        workers=threads,
        cache=cache,
    )


if __name__ == "__main__":
    main()
