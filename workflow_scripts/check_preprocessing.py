"""Check that fMRIPrep can run, before its jobs are queued. Run by hand: `python -m workflow_scripts.check_preprocessing --help`."""

from boldscribe.workflow import Config, Output, program

SETTINGS = (
    "datasets.*.bids_dir paths.results preprocessing.engine preprocessing.fmriprep_digest preprocessing.fmriprep_image "
    "preprocessing.resolution preprocessing.space"
)
WHEREABOUTS = "preprocessing.fmriprep_command preprocessing.fmriprep_sif preprocessing.freesurfer_license preprocessing.templateflow_home"


@program("check_preprocessing", settings=SETTINGS, whereabouts=WHEREABOUTS)
def main(config: Config, dataset: str, report: Output) -> None:
    """Check that fMRIPrep can run, before its jobs are queued."""
    from boldscribe.machinery.files import write_json
    from boldscribe.preprocessing.fmriprep import check

    write_json(report, check(config, dataset))


if __name__ == "__main__":
    main()
