"""Draw a subject."""

import numpy as np

from boldscribe.machinery.reproducible import generator
from boldscribe.workflow import Config, Output, program

SETTINGS = "seed"


@program("simulate_subject", settings=SETTINGS)
def main(config: Config, dataset: str, subject: str, out: Output) -> None:
    """Draw a subject."""
    folder = out / "func"
    folder.mkdir(parents=True)
    rng = generator(config.seed, dataset, subject)
    for run in (1, 2):
        np.save(folder / f"run-{run:02d}_bold.npy", rng.normal(size=(40, 20)))


if __name__ == "__main__":
    main()
