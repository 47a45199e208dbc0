"""Check ready derivatives that only pretraining reads. Run by hand: `python -m workflow_scripts.check_pretraining --help`."""

from boldscribe.workflow import Config, Output, program

SETTINGS = (
    "bold.motion bold.n_volumes bold.tissue datasets preprocessing.engine preprocessing.resolution preprocessing.space pretraining "
    "tokenizer.grid"
)


@program("check_pretraining", settings=SETTINGS)
def main(config: Config, dataset: str, grid: Output) -> None:
    """Check every header of a pretraining-only data set before hours of compute are spent."""
    from boldscribe.data.ready import check_pretraining_set
    from boldscribe.machinery.files import write_json

    write_json(grid, check_pretraining_set(config, dataset))


if __name__ == "__main__":
    main()
