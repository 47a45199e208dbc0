"""Provide a model: weights drawn here, or a link to an asset of the lock."""

from pathlib import Path

import numpy as np

from boldscribe.machinery.reproducible import generator
from boldscribe.workflow import Config, Files, Output, program

SETTINGS = {
    "llm": "seed",
    "connectors": "video_llama.connectors",
}
BY = "asset"  # which of them


@program("fetch_model", settings=SETTINGS, by=BY)
def main(config: Config, asset: str, model: Output, files: Files) -> None:
    """Provide a model: weights drawn here, or a link to an asset of the lock."""
    folder = model
    folder.mkdir()
    if asset == "llm":
        np.save(folder / "weights.npy", generator(config.seed, asset).normal(size=20))
    else:
        weights = Path(config.video_llama.connectors)
        (folder / weights.name).symlink_to(weights.resolve())
        files.use("source", [weights])


if __name__ == "__main__":
    main()
