"""Quality figure of a run: motion, its effect on the data, a carpet plot by tissue, and the fit to the template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec
from numpy.typing import NDArray
from scipy.signal import detrend

from boldscribe.data.template import Template
from boldscribe.preprocessing.confounds import OUTLIER_DISPLACEMENT, OUTLIER_DVARS
from boldscribe.preprocessing.motion import MOTION

CARPET_ROWS = 320
LIMIT = 2.0  # SD
# Okabe & Ito's colours, which are safe for colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
TISSUES = {"grey\nmatter": "#7F7F7F", "white\nmatter": "#0072B2", "CSF": "#D55E00"}
SLICES = ((2, (-30, -8, 14, 40)), (0, (-30, 4)), (1, (-50,)))  # axis, world coordinates (mm)


def draw(
    path: Path,
    confounds: pd.DataFrame,
    series_VT: NDArray[np.float32],
    brain: NDArray[np.bool_],
    images: Mapping[str, NDArray[np.float32]],
    template: Template,
    tr: float,
    title: str,
) -> Path:
    """Draw the figure of a run; equal data give equal bytes.

    Args:
        path: of the PNG.
        confounds: table of `_desc-confounds_timeseries.tsv`.
        series_VT: preprocessed BOLD of the brain's voxels.
        brain: (X, Y, Z) mask of these voxels.
        images: volumes on the template's grid, by title.
        template: on the output grid.
        tr: s.
        title: file name of the run.
    """
    with mpl.rc_context({**mpl.rcParamsDefault, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 11.5), dpi=100)
        rows = GridSpec(
            7, 1, figure, height_ratios=[1, 1, 1, 1, 3.4, 0.02, 4.5], left=0.08, right=0.98, top=0.955, bottom=0.02, hspace=0.24
        )
        figure.text(0.08, 0.978, Path(title).name, fontsize=10, weight="bold")
        time = np.arange(len(confounds)) * tr
        curves = [figure.add_subplot(rows[i]) for i in range(4)]
        _curves(curves, confounds, time)
        carpet = figure.add_subplot(rows[4])
        _carpet(carpet, series_VT, brain, template, len(confounds) * tr)
        for axes in (*curves, carpet):
            axes.set_xlim(0, len(confounds) * tr)
        _outlines(figure, rows[6].subgridspec(len(images), 1, hspace=0.1), images, template)
        figure.savefig(path, metadata={"Software": None})
    return path


def _curves(axes: list[Axes], confounds: pd.DataFrame, time: NDArray[Any]) -> None:
    for i, name in enumerate(MOTION):
        scale = 1 if i < 3 else 180 / np.pi
        axes[i // 3].plot(time, confounds[name] * scale, lw=1, color=COLOURS[i % 3], label="xyz"[i % 3])
    for axis, unit in zip(axes, ("translation\n(mm)", "rotation\n(°)"), strict=False):
        axis.set_ylabel(unit)
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=3, frameon=False, handlelength=1, borderpad=0, borderaxespad=0)
    for axis, column, limit, label in (
        (axes[2], "framewise_displacement", OUTLIER_DISPLACEMENT, "FD (mm)"),
        (axes[3], "std_dvars", OUTLIER_DVARS, "DVARS\n(standardised)"),
    ):
        values = confounds[column].to_numpy()
        axis.fill_between(time, 0 if column == "framewise_displacement" else np.nanmin(values), values, color="#BBBBBB", lw=0)
        axis.plot(time, values, lw=0.8, color="black")
        axis.axhline(limit, color=COLOURS[1], lw=0.8, ls="--")
        axis.set_ylabel(label)
        outliers = int((values > limit).sum())
        axis.set_title(
            f"mean {np.nanmean(values):.2f}, max {np.nanmax(values):.2f}, {outliers} of {len(values)} above {limit:g}",
            loc="right",
            fontsize=8,
            pad=2,
        )
    for axis in axes:
        axis.tick_params(labelbottom=False)
        axis.margins(y=0.1)


def _carpet(axis: Axes, series_VT: NDArray[np.float32], brain: NDArray[np.bool_], template: Template, seconds: float) -> None:
    white, fluid = template.wm[brain], template.csf[brain]
    kinds = np.where(white > 0.5, 1, np.where(fluid > 0.5, 2, 0))
    order = np.argsort(kinds, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, CARPET_ROWS).astype(int))]
    rows = detrend(np.asarray(series_VT[np.sort(chosen)], dtype=np.float64), axis=1)[np.argsort(np.argsort(chosen))]
    sd = rows.std(axis=1, keepdims=True)
    rows = rows / np.where(sd > 0, sd, 1)
    axis.imshow(rows, aspect="auto", cmap="gray", vmin=-LIMIT, vmax=LIMIT, interpolation="nearest", extent=(0, seconds, len(rows), 0))
    edges = np.searchsorted(kinds[chosen], [0, 1, 2, 3])
    for name, colour, first, last in zip(TISSUES, TISSUES.values(), edges, edges[1:], strict=False):
        axis.add_patch(
            mpl.patches.Rectangle(
                (-0.012, 1 - last / len(rows)), 0.008, (last - first) / len(rows), transform=axis.transAxes, color=colour, clip_on=False
            )
        )
        if last > first:
            middle = 1 - (first + last) / 2 / len(rows)
            axis.text(-0.018, middle, name, transform=axis.transAxes, va="center", ha="right", color=colour)
    axis.set_yticks([])
    axis.set_xlabel("time (s)", labelpad=1)
    axis.set_title(f"{len(rows)} of {len(order):,} voxels, trend removed, ±{LIMIT:g} SD", loc="right", fontsize=8, pad=2)


def _outlines(figure: Figure, rows: GridSpecFromSubplotSpec, images: Mapping[str, NDArray[np.float32]], template: Template) -> None:
    """Draw slices with the outlines of the template's brain and white matter."""
    zooms = np.abs(np.diag(template.affine)[:3])
    inside = np.stack(np.nonzero(template.mask))
    box = [slice(max(0, low - 2), high + 3) for low, high in zip(inside.min(axis=1), inside.max(axis=1), strict=True)]
    cuts = [(axis, place) for axis, places in SLICES for place in places]
    widths = [(box[a].stop - box[a].start) * zooms[a] for a in (1 if axis == 0 else 0 for axis, _ in cuts)]
    for (name, volume), row in zip(images.items(), rows, strict=True):  # type: ignore[call-overload]
        columns = row.subgridspec(1, len(cuts), wspace=0.03, width_ratios=widths)
        top = float(np.percentile(volume[template.mask], 99))
        for i, ((axis, place), column) in enumerate(zip(cuts, columns, strict=True)):
            k = round((place - template.affine[axis, 3]) / template.affine[axis, axis])
            k = min(max(k, 0), volume.shape[axis] - 1)
            window = tuple(box[a] for a in range(3) if a != axis)
            first, second = (zooms[a] for a in range(3) if a != axis)
            axes = figure.add_subplot(column)
            axes.imshow(np.take(volume, k, axis)[window].T, cmap="gray", vmin=0, vmax=top, origin="lower", aspect=second / first)
            for edge, colour, level in ((template.mask.astype(float), COLOURS[1], 0.5), (template.wm, "#56B4E9", 0.5)):
                plane = np.take(edge, k, axis)[window].T
                if plane.min() < level < plane.max():
                    axes.contour(plane, levels=[level], colors=colour, linewidths=0.7)
            axes.set_axis_off()
            axes.set_title(f"{'xyz'[axis]} = {place}", fontsize=7, pad=1)
            if i == 0:
                axes.text(-0.06, 0.5, name, transform=axes.transAxes, rotation=90, va="center", ha="right", fontsize=9)
