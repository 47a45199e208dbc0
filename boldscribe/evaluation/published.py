"""Scores that the paper reports, with notes on printed totals that contradict its own rows."""

from __future__ import annotations

from importlib import resources

import pandas as pd

SCORES = ["bertscore", "sacrebleu_1", "sacrebleu_2", "rouge_l_f", "rouge_l_p", "rouge_l_r"]
# A total printed to two decimals is correct if it is within this distance of the mean of its printed rows.
ROUNDING = 0.0051

PUBLISHED = "published"
RECOMPUTED = "published (mean of rows)"
PRINTED = "published (as printed)"
OF_THE_PAPER = (PUBLISHED, RECOMPUTED, PRINTED)


def published_scores(table: int) -> pd.DataFrame:
    """Return the published values of one of the paper's tables, one row per value.

    Returns:
        Columns `row` (`Subject-1`, ..., `Total`), `condition` (`PUBLISHED` for subjects; `RECOMPUTED` and `PRINTED` for the
        total), `metric`, `value` (%), and `note`, which states what is wrong with a printed total and is otherwise empty.
        No rows if the paper has no such table.
    """
    with (resources.files("boldscribe.evaluation") / "reported_scores.csv").open() as file:
        reported = pd.read_csv(file, keep_default_na=False)
    reported = reported[reported["table"] == table]
    subjects, totals = reported[reported["row"] != "Total"], reported[reported["row"] == "Total"]
    long = subjects.melt("row", SCORES, "metric").assign(condition=PUBLISHED, note="")
    means = long.groupby("metric", sort=False)["value"].mean().reset_index()
    recomputed = means.assign(row="Total", condition=RECOMPUTED, note="")
    printed = totals.melt(["row", "note"], SCORES, "metric").assign(condition=PRINTED).merge(means, on="metric", suffixes=("", "_mean"))
    printed["note"] = printed["note"].where((printed["value"] - printed["value_mean"]).abs() > ROUNDING, "")
    return pd.concat([long, recomputed, printed], ignore_index=True)[["row", "condition", "metric", "value", "note"]]
