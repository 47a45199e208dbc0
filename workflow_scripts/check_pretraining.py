"""Check ready derivatives that only pretraining reads. Run by hand: `python -m workflow_scripts.check_pretraining --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"grid": "the grid that all of them are on, as JSON"}


@program("check_pretraining", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Check every header of a pretraining-only data set before hours of compute are spent."""
    from boldscribe.bold.ready import check_pretraining_set
    from boldscribe.files import write_json

    write_json(outputs.one("grid"), check_pretraining_set(config, dataset))


if __name__ == "__main__":
    main()
