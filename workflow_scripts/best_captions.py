"""Choose the best source captions. Run by hand: `python -m workflow_scripts.best_captions --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"captions": "captions of the source clips", "labels": "labels of the source subjects"}
OUTPUTS = {"best": "best caption of each instruction and action (.parquet)"}


@program("best_captions", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Choose the source captions that score best against all others, for each instruction and action."""
    from boldscribe.decoding.best_captions import write_best_captions

    write_best_captions(config, dataset, captions=inputs["captions"], labels=inputs["labels"], best=outputs.one("best"))


if __name__ == "__main__":
    main()
