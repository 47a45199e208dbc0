"""Preprocess one subject with the configured engine. Run by hand: `python -m workflow_scripts.fmriprep --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "raw": "the subject's raw data, or the manifest of the data set",
    "transforms": "the subject's folder of ready transforms, with the engine 'minimal'",
    "checked": "what the check found",
    "preflight": "what the check of fMRIPrep found, for the engines that run it",
}
OUTPUTS = {"out": "the subject's folder of derivatives"}


@program("fmriprep", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"), work=True, resources=("threads", "memory_mb"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str, work: Path, threads: int, memory_mb: int) -> None:
    """Preprocess one subject with the configured engine."""
    from boldscribe.preprocessing.engine import preprocess

    done = preprocess(config, dataset, subject, outputs.one("out").parent, work, threads=threads, memory_mb=memory_mb)
    outputs.use("dataset_files", done.dataset_files)
    inputs.use("template", done.templates)
    inputs.container = done.container


if __name__ == "__main__":
    main()
