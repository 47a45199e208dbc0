"""Weigh the voxels."""

import numpy as np
from numpy.typing import NDArray

from boldscribe.config import Config
from boldscribe.files import load_array
from boldscribe.provenance.program import Files, program


def shrunk(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights nearer to zero."""
    return weights * 0.9


@program(
    "stage1",
    inputs={"series": "series of the subjects", "models": "model folders"},
    outputs={"folder": "the weights"},
    wildcards=("dataset",),
    shut=True,
)
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Weigh the voxels."""
    model = next(folder for folder in inputs["models"] if folder.name == "llm")
    mean = np.mean([load_array(path)[0].mean(0) for path in inputs["series"]], axis=0)
    outputs.one("folder").mkdir(parents=True)
    np.save(outputs.one("folder") / "weights.npy", shrunk(np.load(model / "weights.npy") + mean))


if __name__ == "__main__":
    main()
