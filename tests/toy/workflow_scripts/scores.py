"""Score each volume of the test subject against all others."""

import numpy as np
import pandas as pd
from pycocoevalcap.cider.cider_scorer import precook

from boldscribe.config import Config
from boldscribe.evaluation.identification import identification
from boldscribe.files import load_array
from boldscribe.provenance.program import Files, program


@program(
    "scores",
    inputs={"series": "series of the test subject", "stage1": "the weights"},
    outputs={"scores": "scores (.parquet)"},
    wildcards=("dataset",),
)
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Score each volume of the test subject against all others."""
    seen = load_array(inputs.one("series"))[0] @ np.load(inputs.one("stage1") / "weights.npy")
    similarity = -np.abs(seen[:, None] - seen[None] - 0.1)
    accuracy = identification(similarity, config.evaluation.identification_ways)["identification_2way"]
    table = pd.DataFrame({"trial": range(len(seen)), "identification": np.diag(accuracy), "words": len(precook("a toy"))})
    table.to_parquet(outputs.one("scores"), index=False)


if __name__ == "__main__":
    main()
