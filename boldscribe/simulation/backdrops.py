"""Backdrops of the rendered clips: one function per place."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
HORIZON = 0.62  # height of the horizon or of the wall's foot, as a share of the frame


def draw_backdrop(draw: ImageDraw.ImageDraw, place: str, edge: int, rng: np.random.Generator) -> None:
    """Fill a square image with a place, with jittered details.

    Args:
        draw: drawing context of the image.
        place: one of the vocabulary's places.
        edge: edge of the image (pixels).
        rng: draws positions of trees, clouds, windows, ...
    """
    {"beach": _beach, "forest": _forest, "street": _street, "gym": _gym, "desert": _desert}[place](draw, edge, rng)


def _bands(draw: ImageDraw.ImageDraw, edge: int, above: Colour, below: Colour) -> None:
    draw.rectangle((0, 0, edge, edge), fill=above)
    draw.rectangle((0, HORIZON * edge, edge, edge), fill=below)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Colour) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _beach(draw: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    _bands(draw, edge, (150, 210, 245), (238, 214, 160))
    draw.rectangle((0, 0.45 * edge, edge, HORIZON * edge), fill=(30, 110, 180))
    for y in np.linspace(0.47, HORIZON - 0.01, 4):
        x = rng.uniform(0, 0.3)
        draw.line((x * edge, y * edge, (x + 0.6) * edge, y * edge), fill=(200, 230, 245), width=edge // 120)
    _disc(draw, rng.uniform(0.1, 0.9) * edge, 0.12 * edge, 0.06 * edge, (255, 240, 130))


def _forest(draw: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    _bands(draw, edge, (120, 165, 120), (60, 100, 45))
    for x in np.linspace(0.02, 0.98, 9) + rng.uniform(-0.04, 0.04, 9):
        top = rng.uniform(0.02, 0.15)
        draw.rectangle(((x - 0.015) * edge, 0.3 * edge, (x + 0.015) * edge, (HORIZON + 0.04) * edge), fill=(85, 55, 30))
        draw.polygon([((x - 0.1) * edge, 0.45 * edge), (x * edge, top * edge), ((x + 0.1) * edge, 0.45 * edge)], fill=(25, 80, 40))


def _street(draw: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    _bands(draw, edge, (190, 200, 215), (85, 85, 90))
    left = 0.0
    while left < 1:
        width, top = rng.uniform(0.16, 0.26), rng.uniform(0.05, 0.25)
        grey = int(rng.integers(110, 160))
        draw.rectangle((left * edge, top * edge, (left + width - 0.02) * edge, HORIZON * edge), fill=(grey, grey - 15, grey - 25))
        for wx in np.arange(left + 0.03, left + width - 0.05, 0.06):
            for wy in np.arange(top + 0.04, HORIZON - 0.06, 0.09):
                draw.rectangle((wx * edge, wy * edge, (wx + 0.03) * edge, (wy + 0.05) * edge), fill=(225, 225, 190))
        left += width
    for x in np.arange(rng.uniform(0, 0.1), 1, 0.2):
        draw.rectangle((x * edge, 0.9 * edge, (x + 0.1) * edge, 0.92 * edge), fill=(235, 235, 235))


def _gym(draw: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    _bands(draw, edge, (225, 220, 205), (170, 110, 60))
    for x in np.arange(rng.uniform(0, 0.05), 1, 0.07):
        draw.line((x * edge, 0.05 * edge, x * edge, HORIZON * edge), fill=(190, 160, 110), width=edge // 90)
    for y in np.arange(0.1, HORIZON, 0.08):
        draw.line((0, y * edge, edge, y * edge), fill=(190, 160, 110), width=edge // 90)
    draw.line((0, 0.85 * edge, edge, 0.85 * edge), fill=(240, 240, 240), width=edge // 70)


def _desert(draw: ImageDraw.ImageDraw, edge: int, rng: np.random.Generator) -> None:
    _bands(draw, edge, (250, 190, 120), (205, 140, 75))
    for x in rng.uniform(0, 1, 3):
        draw.ellipse(((x - 0.4) * edge, 0.5 * edge, (x + 0.4) * edge, 0.85 * edge), fill=(215, 155, 90))
    draw.rectangle((0, (HORIZON + 0.06) * edge, edge, edge), fill=(205, 140, 75))
    x = rng.uniform(0.05, 0.95)
    for dx, top, bottom in ((0, 0.35, 0.68), (-0.06, 0.45, 0.55), (0.06, 0.42, 0.52)):
        draw.rectangle(((x + dx - 0.015) * edge, top * edge, (x + dx + 0.015) * edge, bottom * edge), fill=(60, 120, 60))
    draw.rectangle(((x - 0.06) * edge, 0.53 * edge, (x + 0.06) * edge, 0.55 * edge), fill=(60, 120, 60))
