"""Record a subject's ready derivatives in a manifest. Run by hand: `python -m workflow_scripts.fetch_pretraining --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"marker": "the digest of each file, as JSON"}


@program("fetch_pretraining", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Record the derivatives of a pretraining-only subject in a manifest."""
    from boldscribe.bold.ready import subject_manifest
    from boldscribe.files import write_json

    write_json(outputs.one("marker"), subject_manifest(config, dataset, subject))


if __name__ == "__main__":
    main()
