"""Probability of beating the controls, by design: table and figure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from boldscribe.conditions import CONDITIONS
from boldscribe.machinery.files import atomic

DESIGN = ["source", "target", "trials", "snr"]
ALL, ANY = "all null controls", "any null control"
ANY_METRIC = "any"


def probabilities(tests: pd.DataFrame) -> pd.DataFrame:
    """Estimate how often the model beats each null control, all of them, and any of them.

    Args:
        tests: as returned by `run_all`.

    Returns:
        `source, target, trials, snr, control, beaten, repeats, probability, low, high` with the exact 95 % interval
        (Clopper and Pearson 1934).
    """
    overall = tests[tests["metric"] == ANY_METRIC]
    beaten = overall.pivot_table(index=[*DESIGN, "repetition"], columns="against", values="beats", aggfunc="first").astype(bool)
    beaten = beaten[[c for c in CONDITIONS if c in beaten]]
    outcomes = pd.concat([pd.DataFrame({ALL: beaten.all(axis=1), ANY: beaten.any(axis=1)}), beaten], axis=1)
    counts = outcomes.melt(ignore_index=False, var_name="control", value_name="beaten").groupby([*DESIGN, "control"], sort=False)
    table = counts["beaten"].agg(beaten="sum", repeats="size").reset_index()
    table["probability"] = table["beaten"] / table["repeats"]
    table["low"], table["high"] = proportion_confint(table["beaten"], table["repeats"], method="beta")
    return table.sort_values(DESIGN, kind="stable", ignore_index=True)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the probability of beating all null controls against the SNR: a line per number of trials, a panel per number of subjects."""
    shown = table[table["control"] == ALL]
    panels = list(shown.groupby(["source", "target"]))
    with rc_context({"svg.hashsalt": "boldscribe", "font.size": 10}):
        figure = Figure(figsize=(1.2 + 4 * len(panels), 3.6), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, ((source, target), group) in zip(axes, panels, strict=True):
            _panel(axis, group)
            axis.set_title(f"{source} source + {target} target subjects")
        axes[0].set_ylabel("P(model beats all null controls)")
        with atomic(path) as part:
            figure.savefig(part, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axis: Axes, group: pd.DataFrame) -> None:
    for marker, (trials, line) in zip("osD^v*xP", group.groupby("trials"), strict=False):
        ends = [line["probability"] - line["low"], line["high"] - line["probability"]]
        axis.errorbar(line["snr"], line["probability"], ends, marker=marker, capsize=3, label=f"{trials} trials per run")
    axis.axhline(0.05, color="0.6", linestyle=":", label="0.05")
    axis.set(xlabel="SNR (1: the simulator's default)", ylim=(-0.03, 1.03))
    axis.legend(fontsize=8)
