"""Preprocess one subject with the configured engine. Run by hand: `python -m workflow_scripts.fmriprep --help`."""

from pathlib import Path

from boldscribe.workflow import Config, Files, Inputs, Output, program

SETTINGS = (
    "datasets.*.bids_dir datasets.*.derivatives_dir datasets.*.entities datasets.*.session datasets.*.task paths.results "
    "preprocessing.engine preprocessing.fmriprep_digest preprocessing.fmriprep_image preprocessing.resolution preprocessing.space "
    "preprocessing.susceptibility"
)
WHEREABOUTS = "preprocessing.fmriprep_command preprocessing.fmriprep_sif preprocessing.freesurfer_license preprocessing.templateflow_home"


@program("fmriprep", settings=SETTINGS, whereabouts=WHEREABOUTS)
def main(
    config: Config,
    dataset: str,
    subject: str,
    raw: Inputs,
    transforms: Inputs,
    checked: Inputs,
    preflight: Inputs,
    out: Output,
    work: Path,
    threads: int,
    memory_mb: int,
    files: Files,
) -> None:
    """Preprocess one subject with the configured engine."""
    from boldscribe.preprocessing.engine import preprocess

    done = preprocess(config, dataset, subject, out.parent, work, threads=threads, memory_mb=memory_mb)
    files.make("dataset_files", done.dataset_files)
    files.use("template", done.templates)
    files.container = done.container


if __name__ == "__main__":
    main()
