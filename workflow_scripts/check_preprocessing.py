"""Check that fMRIPrep can run, before its jobs are queued. Run by hand: `python -m workflow_scripts.check_preprocessing --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

OUTPUTS = {"report": "what was found, as JSON"}


@program("check_preprocessing", inputs={}, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Check that fMRIPrep can run, before its jobs are queued."""
    from boldscribe.files import write_json
    from boldscribe.preprocessing.fmriprep import check

    write_json(outputs.one("report"), check(config, dataset))


if __name__ == "__main__":
    main()
