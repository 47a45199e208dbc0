"""Make the table of a data set."""

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

TITLE = "Identification of"


@program("tables", inputs={"scores": "scores (.parquet)"}, outputs={"csv": "the table", "md": "the same to read"}, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Make the table of a data set."""
    values = pd.read_parquet(inputs.one("scores"))["identification"].to_numpy()
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(config.evaluation.bootstrap_samples)]
    low, high = np.quantile(means, (0.025, 0.975))
    row = {"dataset": dataset, "row": "Total", "subject": "all", "condition": "model", "metric": "identification"}
    table = pd.DataFrame([row | {"value": values.mean(), "low": low, "high": high}])
    table.to_csv(outputs.one("csv"), index=False)
    outputs.one("md").write_text(f"{TITLE} {dataset}: {values.mean():.2f} [{low:.2f}, {high:.2f}]\n")


if __name__ == "__main__":
    main()
