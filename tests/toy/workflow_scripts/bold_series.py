"""Clip the runs of a subject, and put them in a row."""

import numpy as np

from boldscribe.config import Config
from boldscribe.files import save_array
from boldscribe.provenance.program import Files, program


@program("bold_series", inputs={"raw": "folder of the subject"}, outputs={"series": "series (.npy)"}, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Clip the runs of a subject, and put them in a row."""
    runs = [np.load(file) for file in sorted(inputs.one("raw").glob("func/*.npy"))]
    save_array(outputs.one("series"), np.concatenate(runs).clip(-config.bold.clip_sigma, config.bold.clip_sigma), axes=["volume", "voxel"])


if __name__ == "__main__":
    main()
