"""Report what the test trials share with training. Run by hand: `python -m workflow_scripts.leakage --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "trials": "trial indices of all subjects",
    "labels": "labels of all subjects",
    "source_captions": "captions of the source clips",
    "test_captions": "captions of the test clips",
}
OUTPUTS = {"json": "counts and findings (.json)", "md": "the same in words (.md)"}


@program("leakage", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Report what the test trials share with training."""
    from boldscribe.evaluation.leakage import write_leakage

    write_leakage(
        config,
        dataset,
        **{name: inputs[name] for name in INPUTS},
        json=outputs.one("json"),
        md=outputs.one("md"),
    )


if __name__ == "__main__":
    main()
