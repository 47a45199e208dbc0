"""Shared style of the report's figures: colours that follow the reader's light or dark screen, and images with reproducible bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Canvas

from boldscribe.conditions import Kind

# Name → colour on a light and on a dark screen. The kinds use Okabe and Ito's colours, which colour-blind readers can distinguish, with a
# contrast of at least 3:1 against the page (WCAG 1.4.11). Their markers differ as well.
PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1b1b1b", "#ececec"),
    "soft": ("#5c5c5c", "#b0b0b0"),
    "line": ("#d0d0d0", "#474747"),
    "model": ("#0072b2", "#56b4e9"),
    "null": ("#d55e00", "#ff8c42"),
    "control": ("#00795a", "#2fc79a"),
    "ablation": ("#a0508a", "#e29cc8"),
    "ceiling": ("#8a6a00", "#e6b93c"),
}
MARKERS: dict[Kind, str] = {"model": "o", "null": "s", "control": "^", "ablation": "D", "ceiling": "v"}
INK, SOFT, LINE = (PALETTE[name][0] for name in ("ink", "soft", "line"))
STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "boldscribe",
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Figure:
    """An image of the page.

    Attributes:
        source: data URI.
        alt: alternative text that states what it shows.
        width, height: in CSS pixels.
        dark: data URI of the image for dark screens, if `source` does not adapt to them.
    """

    source: str
    alt: str
    width: int
    height: int
    dark: str = ""


@contextmanager
def drawing(width: float, height: float, *, left: float, bottom: float, top: float = 0.3) -> Iterator[tuple[Canvas, Any]]:
    """Open a canvas with axes in the report's style. Sizes are in inches. Margins are given, since fitting them is slow."""
    with plt.rc_context(STYLE):
        canvas, ax = plt.subplots(figsize=(width, height))
        canvas.subplots_adjust(left / width, bottom / height, 1 - 0.12 / width, 1 - top / height)
        try:
            yield canvas, ax
        finally:
            plt.close(canvas)


def as_svg(canvas: Canvas, alt: str) -> Figure:
    """Render the drawing as SVG, with colours of `PALETTE` that follow the reader's preference for light or dark."""
    buffer = BytesIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue().decode()
    for name, (light, _) in PALETTE.items():
        text = text.replace(light, f"var(--{name})")
    start = text.index(">", text.index("<svg")) + 1
    text = f"{text[text.index('<svg') : start]}<style>{css_colours()}</style>{text[start:]}"
    width, height = (round(96 * inches) for inches in canvas.get_size_inches())
    return Figure("data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode(), alt, width, height)


def css_colours() -> str:
    """Return `PALETTE` as CSS variables."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in PALETTE.items()) for i in (0, 1))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
