"""Draw a subject."""

import numpy as np

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program
from boldscribe.reproducible import generator


@program("simulate_subject", inputs={}, outputs={"out": "folder of the subject"}, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Draw a subject."""
    folder = outputs.one("out") / "func"
    folder.mkdir(parents=True)
    rng = generator(config.seed, dataset, subject)
    for run in (1, 2):
        np.save(folder / f"run-{run:02d}_bold.npy", rng.normal(size=(40, 20)))


if __name__ == "__main__":
    main()
