"""Figures of the report, as SVG with reproducible bytes."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from boldscribe.errors import UserError
from boldscribe.evaluation.typeset import COLUMNS, CONDITIONS

# Colours of Okabe & Ito, which colour-blind readers can tell apart; markers differ as well.
STYLES = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")]
STYLE: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "boldscribe", "figure.dpi": 100}


def score_figure(values: pd.DataFrame, metrics: tuple[str, ...] = ("bertscore", "sacrebleu_1", "identification_2way")) -> str:
    """Scores of the model and its controls with their intervals, per subject and in total; a line at chance. A data URI.

    Args:
        values: the tidy table of a data set (`make_tables`).
        metrics: one panel each.
    """
    measured = values[values["condition"].isin(CONDITIONS)]
    rows = list(dict.fromkeys(measured["row"]))
    conditions = list(dict.fromkeys(measured["condition"]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(metrics), figsize=(11, 0.7 + 0.75 * len(rows)), sharey=True, layout="constrained")
        for ax, metric in zip(axes, metrics, strict=True):
            for i, (condition, (colour, marker)) in enumerate(zip(conditions, STYLES, strict=False)):
                own = measured[(measured["metric"] == metric) & (measured["condition"] == condition)].set_index("row").loc[rows]
                height = np.arange(len(rows)) + 0.18 * (i - (len(conditions) - 1) / 2)
                ends = [own["value"] - own["low"], own["high"] - own["value"]]
                ax.errorbar(own["value"], height, xerr=np.clip(ends, 0, None), fmt=marker, color=colour, label=CONDITIONS[condition])
            of_total = values[(values["condition"] == "chance") & (values["metric"] == metric) & (values["row"] == "Total")]
            for chance in of_total["value"]:
                ax.axvline(chance, color="0.6", linestyle="--", zorder=0)
            ax.set_xlabel(f"{COLUMNS[metric]} (%)")
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(conditions), frameon=False)
        return _data_uri(figure)


def curve_figure(path: Path) -> str | None:
    """A learning curve, one panel per column against the first. A data URI, or None where nothing was trained.

    Args:
        path: table (.parquet) whose first column is the step or epoch; further numeric columns are drawn.

    Raises:
        UserError: no such table.
    """
    try:
        curve = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"expected a learning curve (.parquet): {error}; run the stage again") from None
    numeric = curve.select_dtypes("number")
    if len(curve) == 0 or len(numeric.columns) < 2:
        return None
    time, *columns = numeric.columns
    n_rows = -(-len(columns) // 4)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(n_rows, 4, figsize=(11, 0.3 + 2.1 * n_rows), layout="constrained", squeeze=False)
        for ax in axes.flat[len(columns) :]:
            ax.axis("off")
        for ax, column in zip(axes.flat, columns, strict=False):
            ax.plot(numeric[time], numeric[column], color=STYLES[0][0], marker="." if len(numeric) < 50 else "")
            ax.set_title(column.replace("_", " "), fontsize=10)
            ax.set_xlabel(time)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _data_uri(figure)


def _data_uri(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
