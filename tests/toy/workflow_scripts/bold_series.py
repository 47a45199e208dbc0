"""Clip the runs of a subject, and put them in a row."""

import numpy as np

from boldscribe.machinery.files import save_array
from boldscribe.workflow import Config, Input, Output, program

SETTINGS = "bold.clip_sigma"


@program("bold_series", settings=SETTINGS)
def main(config: Config, dataset: str, subject: str, raw: Input, series: Output) -> None:
    """Clip the runs of a subject, and put them in a row."""
    runs = [np.load(file) for file in sorted(raw.glob("func/*.npy"))]
    save_array(series, np.concatenate(runs).clip(-config.bold.clip_sigma, config.bold.clip_sigma), axes=["volume", "voxel"])


if __name__ == "__main__":
    main()
