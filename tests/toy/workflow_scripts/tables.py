"""Make the table of a data set."""

import numpy as np
import pandas as pd

from boldscribe.workflow import Config, Input, Output, program

TITLE = "Identification of"

SETTINGS = "evaluation.bootstrap_samples"


@program("tables", settings=SETTINGS)
def main(config: Config, dataset: str, scores: Input, csv: Output, md: Output) -> None:
    """Make the table of a data set."""
    values = pd.read_parquet(scores)["identification"].to_numpy()
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(config.evaluation.bootstrap_samples)]
    low, high = np.quantile(means, (0.025, 0.975))
    row = {"dataset": dataset, "row": "Total", "subject": "all", "condition": "model", "metric": "identification"}
    table = pd.DataFrame([row | {"value": values.mean(), "low": low, "high": high}])
    table.to_csv(csv, index=False)
    md.write_text(f"{TITLE} {dataset}: {values.mean():.2f} [{low:.2f}, {high:.2f}]\n")


if __name__ == "__main__":
    main()
