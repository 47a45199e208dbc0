"""Preprocess one subject with the configured engine. Run by hand: `python -m workflow_scripts.fmriprep --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.preprocessing.engine import preprocess
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"out": "the subject's folder of derivatives"}


@program("fmriprep", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"), work=True)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str, work: Path) -> None:
    """Preprocess one subject with the configured engine."""
    preprocess(config, dataset, subject, outputs.one("out").parent, work)


if __name__ == "__main__":
    main()
