"""Record a subject's ready derivatives in a manifest. Run by hand: `python -m workflow_scripts.fetch_pretraining --help`."""

from boldscribe.workflow import Config, Output, program

SETTINGS = "pretraining.*.derivatives_dir"


@program("fetch_pretraining", settings=SETTINGS)
def main(config: Config, dataset: str, subject: str, marker: Output) -> None:
    """Record the derivatives of a pretraining-only subject in a manifest."""
    from boldscribe.data.ready import subject_manifest
    from boldscribe.machinery.files import write_json

    write_json(marker, subject_manifest(config, dataset, subject))


if __name__ == "__main__":
    main()
