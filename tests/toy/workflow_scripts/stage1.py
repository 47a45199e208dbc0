"""Weigh the voxels."""

import numpy as np
from numpy.typing import NDArray

from boldscribe.machinery.files import load_array
from boldscribe.workflow import Config, Inputs, Output, program


def shrunk(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights nearer to zero."""
    return weights * 0.9


SETTINGS = "seed"


@program("stage1", settings=SETTINGS, shut=True)
def main(config: Config, dataset: str, series: Inputs, models: Inputs, folder: Output) -> None:
    """Weigh the voxels."""
    model = next(folder for folder in models if folder.name == "llm")
    mean = np.mean([load_array(path)[0].mean(0) for path in series], axis=0)
    folder.mkdir(parents=True)
    np.save(folder / "weights.npy", shrunk(np.load(model / "weights.npy") + mean))


if __name__ == "__main__":
    main()
