"""Plots of the report: the model against each control, identification by number of candidates, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from boldscribe.conditions import CONDITIONS, KINDS
from boldscribe.evaluation.metrics import WAYS, title_of
from boldscribe.evaluation.notes import LABELS
from boldscribe.evaluation.typeset import expected_scores
from boldscribe.machinery.errors import UserError
from boldscribe.report.figures import INK, LINE, MARKERS, PALETTE, SOFT, Figure, as_svg, drawing

MAIN = ("bertscore", "sacrebleu_1", "rouge_l_f", "meteor", "sentence_similarity", "identification_2way")


def forest(differences: pd.DataFrame, metric: str) -> Figure | None:
    """Draw model minus each control in one score: the mean over subjects with both intervals, and a ring for each subject.

    With few subjects the interval over subjects is wide. It is cut at the axis limits, which the trials' intervals and the rings set.

    Args:
        differences: `D_differences.csv` (docs/data.md).
        metric: the score; the result is None if no control has it.
    """
    own = differences[(differences["metric"] == metric) & differences["control"].isin(CONDITIONS)].dropna(subset=["difference"])
    total = own[own["row"] == "Total"].set_index("control")
    names = [c for c in CONDITIONS if c in total.index]
    if not names:
        return None
    with drawing(4.0, 0.75 + 0.21 * len(names), left=1.95, bottom=0.45) as (canvas, ax):
        ax.axvline(0, color=SOFT, linewidth=1)
        seen = own[own["control"].isin(names)][["difference", "low_trials", "high_trials"]].to_numpy()
        edge = 0.06 * (max(seen.max(), 0) - min(seen.min(), 0) or 1)
        ax.set_xlim(min(seen.min(), 0) - edge, max(seen.max(), 0) + edge)
        for height, name in enumerate(names):
            kind, entry = CONDITIONS[name].kind, total.loc[name]
            colour = PALETTE[kind][0]
            subjects = own.loc[(own["row"] != "Total") & (own["control"] == name), "difference"]
            ax.plot([entry["low"], entry["high"]], [height, height], color=colour, linewidth=0.9)
            ax.plot([entry["low_trials"], entry["high_trials"]], [height, height], color=colour, linewidth=2.8)
            ax.plot(entry["difference"], height, MARKERS[kind], color=colour, markersize=5)
            ax.plot(subjects, np.full(len(subjects), height), "o", markersize=3.6, markerfacecolor="none", color=SOFT, markeredgewidth=0.7)
        ax.set_yticks(range(len(names)), [CONDITIONS[n].title for n in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="x", color=LINE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_title(title_of(metric))
        ax.set_xlabel("model − control (points)")
        shown = "; ".join(f"{CONDITIONS[n].title} {float(total['difference'][n]):+.1f}" for n in names)
        return as_svg(canvas, f"Model minus control in {title_of(metric)}, percentage points: {shown}.")


def identification_curve(values: pd.DataFrame, tests: pd.DataFrame) -> Figure | None:
    """Draw how often a trial's own caption is found among k of the subject's, for model, controls and chance; None without k.

    Chance is the model's mean with permuted references, which its style earns; 1 in k if the tests have none.

    Args:
        values, tests: `D.csv`, `D_tests.csv` (docs/data.md).
    """
    total = values[(values["row"] == "Total") & values["metric"].str.fullmatch(WAYS)].dropna(subset=["value"])
    total = total[total["condition"].isin(CONDITIONS)].assign(k=total["metric"].str.extract(WAYS, expand=False).astype(int))
    ways = np.array(sorted(set(total["k"])))
    if not len(ways):
        return None
    with drawing(4.4, 3.7, left=0.62, bottom=0.45, top=0.75) as (canvas, ax):
        expected = expected_scores(tests, "Total")
        chance = [expected.get(f"identification_{k}way", 100 / k) for k in ways]
        ax.plot(ways, chance, color=INK, linestyle=(0, (2, 2)), linewidth=1.2)
        handles = [Line2D([], [], color=INK, linestyle=(0, (2, 2)), label="Chance, with style")]
        for kind in KINDS:
            names = [c for c in CONDITIONS if CONDITIONS[c].kind == kind and c in set(total["condition"])]
            for name in names:
                own = total[total["condition"] == name].sort_values("k")
                bold = kind == "model"
                style = {"color": PALETTE[kind][0], "marker": MARKERS[kind], "markersize": 6 if bold else 3.5}
                ax.plot(own["k"], own["value"], linewidth=2.4 if bold else 0.9, zorder=3 if bold else 2, **style)
                if bold:
                    ax.fill_between(own["k"], own["low"], own["high"], color=style["color"], alpha=0.2, linewidth=0)
            if names:
                label = LABELS[kind] + (f" ({len(names)})" if kind != "model" else "")
                handles.insert(-1, Line2D([], [], color=PALETTE[kind][0], marker=MARKERS[kind], markersize=4, label=label))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(ways.tolist()))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_minor_locator(FixedLocator([]))
        ax.set_ylim(0, None)
        ax.grid(axis="y", color=LINE, linewidth=0.6)
        ax.set_xlabel("candidates k")
        ax.set_ylabel("own caption found (%)")
        canvas.legend(handles=handles, loc="upper left", ncols=2, handlelength=2, columnspacing=1.2)
        model = total[total["condition"] == "model"].sort_values("k")
        shown = ", ".join(f"{v:.1f} % for k = {k}" for k, v in zip(model["k"], model["value"], strict=True))
        by_chance = ", ".join(f"{v:.1f} % for k = {k}" for k, v in zip(ways, chance, strict=True))
        return as_svg(
            canvas,
            f"Identification among k candidates. The model finds its own caption in this share of trials: {shown}; by chance: {by_chance}.",
        )


def learning_curves(path: Path, stage: str) -> list[Figure]:
    """Draw a learning curve: one figure for each column against the first; empty if nothing was trained.

    Args:
        path: table (.parquet) whose first column is the step or epoch; further numeric columns are drawn.
        stage: its name, for the alternative texts.

    Raises:
        UserError: the table cannot be read.
    """
    try:
        curve = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"expected a learning curve (.parquet): {error}; run the stage again") from None
    numeric = curve.select_dtypes("number")
    if len(curve) == 0 or len(numeric.columns) < 2:
        return []
    time, *columns = numeric.columns
    return [_learning(numeric[time], numeric[column], stage) for column in columns]


def _learning(time: pd.Series, values: pd.Series, stage: str) -> Figure:
    name = str(values.name).replace("_", " ")
    with drawing(2.3, 1.8, left=0.62, bottom=0.42, top=0.42) as (canvas, ax):
        ax.plot(time, values, color=PALETTE["model"][0], marker="." if len(values) < 50 else "", linewidth=1.4)
        ax.set_title(name, pad=13)
        ax.set_xlabel(str(time.name))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="y", scilimits=(-2, 4), useOffset=False)
        ax.grid(color=LINE, linewidth=0.6)
        known = values.dropna()
        trend = f"from {known.iloc[0]:.3g} to {known.iloc[-1]:.3g}" if len(known) else "no value"
        return as_svg(canvas, f"{stage}, {name} by {time.name}: {trend}.")


def shown_metrics(values: pd.DataFrame, wanted: Sequence[str] = MAIN) -> list[str]:
    """Return the main scores that a table has."""
    return [m for m in wanted if m in set(values["metric"])]
