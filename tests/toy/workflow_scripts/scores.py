"""Score each volume of the test subject against all others."""

import numpy as np
import pandas as pd
from pycocoevalcap.cider.cider_scorer import precook

from boldscribe.evaluation.identification import identification
from boldscribe.machinery.files import load_array
from boldscribe.workflow import Config, Input, Output, program

SETTINGS = "evaluation.identification_ways"


@program("scores", settings=SETTINGS)
def main(config: Config, dataset: str, series: Input, stage1: Input, scores: Output) -> None:
    """Score each volume of the test subject against all others."""
    seen = load_array(series)[0] @ np.load(stage1 / "weights.npy")
    similarity = -np.abs(seen[:, None] - seen[None] - 0.1)
    accuracy = identification(similarity, config.evaluation.identification_ways)["identification_2way"]
    table = pd.DataFrame({"trial": range(len(seen)), "identification": np.diag(accuracy), "words": len(precook("a toy"))})
    table.to_parquet(scores, index=False)


if __name__ == "__main__":
    main()
