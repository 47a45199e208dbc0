"""Choose the best source captions. Run by hand: `python -m workflow_scripts.best_captions --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = "datasets.*.train_subjects seed video_llama.instructions"


@program("best_captions", settings=SETTINGS)
def main(config: Config, dataset: str, captions: Inputs, labels: Inputs, best: Output) -> None:
    """Choose the source captions that score best against all others, for each instruction and action."""
    from boldscribe.decoding.best_captions import write_best_captions

    write_best_captions(config, dataset, captions=captions, labels=labels, best=best)


if __name__ == "__main__":
    main()
