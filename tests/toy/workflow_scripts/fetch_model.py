"""Provide a model: weights drawn here, or a link to an asset of the lock."""

from pathlib import Path

import numpy as np

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program
from boldscribe.reproducible import generator


@program("fetch_model", inputs={}, outputs={"model": "folder of the model"}, wildcards=("asset",))
def main(config: Config, inputs: Files, outputs: Files, asset: str) -> None:
    """Provide a model: weights drawn here, or a link to an asset of the lock."""
    folder = outputs.one("model")
    folder.mkdir()
    if asset == "llm":
        np.save(folder / "weights.npy", generator(config.seed, asset).normal(size=20))
    else:
        weights = Path(config.video_llama.connectors)
        (folder / weights.name).symlink_to(weights.resolve())
        inputs.use("source", [weights])


if __name__ == "__main__":
    main()
