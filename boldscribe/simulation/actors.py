"""Jointed figures and their props: one function per action, posed by the phase of its movement.

Coordinates are x to the right and y upwards, in units of an adult's height, with the origin on the ground in the middle of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from PIL import ImageDraw

from boldscribe.simulation.scenes import Scene

Point = tuple[float, float]
Colour = tuple[int, int, int]
SHIRTS: dict[str, Colour] = {
    "red": (215, 30, 35),
    "blue": (30, 70, 220),
    "green": (20, 170, 60),
    "yellow": (250, 220, 30),
    "purple": (140, 40, 170),
    "white": (250, 250, 250),
}
SKIN, TROUSERS, SHOES, BLACK, STEEL, WOOD = (225, 175, 140), (50, 50, 75), (30, 30, 30), (15, 15, 15), (150, 155, 165), (150, 95, 45)
GROUND = 0.88  # height of the feet in the frame
ADULT = 0.6  # an adult's height as a share of the frame
HEIGHT = {"man": 1.0, "woman": 0.94, "boy": 0.78, "girl": 0.76}
HAIR: dict[str, Colour] = {"man": (40, 30, 25), "woman": (110, 50, 20), "boy": (70, 50, 30), "girl": (230, 190, 90)}


@dataclass
class Canvas:
    """A frame to draw on in body units."""

    draw: ImageDraw.ImageDraw
    edge: int
    scale: float
    shift: float
    mirrored: bool

    def pixel(self, point: Point) -> Point:
        """Convert a point in body units to a pixel."""
        x = -point[0] if self.mirrored else point[0]
        unit = ADULT * self.scale
        return ((0.5 + self.shift + x * unit) * self.edge, (GROUND - point[1] * unit) * self.edge)

    def _length(self, units: float) -> float:
        return units * ADULT * self.scale * self.edge

    def line(self, points: list[Point], width: float, fill: Colour) -> None:
        """Draw a thick line with round joints."""
        pixels = [self.pixel(p) for p in points]
        self.draw.line(pixels, fill=fill, width=max(1, round(self._length(width))), joint="curve")
        for p in points:
            self.disc(p, width / 2, fill)

    def disc(self, centre: Point, radius: float, fill: Colour) -> None:
        """Draw a filled circle."""
        (x, y), r = self.pixel(centre), self._length(radius)
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def ring(self, centre: Point, radius: float, width: float, fill: Colour) -> None:
        """Draw a circle's outline."""
        (x, y), r = self.pixel(centre), self._length(radius)
        self.draw.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=max(1, round(self._length(width))))

    def polygon(self, points: list[Point], fill: Colour) -> None:
        """Draw a filled polygon."""
        self.draw.polygon([self.pixel(p) for p in points], fill=fill)


@dataclass
class Figure:
    """An actor with sizes and colours; `pose` draws the body by its joints."""

    canvas: Canvas
    scene: Scene

    @property
    def height(self) -> float:
        """Height in body units."""
        return HEIGHT[self.scene.actor]

    def pose(self, hip: Point, lean: float, hands: tuple[Point, Point], feet: tuple[Point, Point]) -> Point:
        """Draw the body and return the shoulder.

        Args:
            hip: position of the hip.
            lean: angle of the trunk from the vertical (rad), positive to the right.
            hands, feet: ends of the limbs; elbows and knees follow.
        """
        h, canvas = self.height, self.canvas
        shoulder = (hip[0] + 0.33 * h * sin(lean), hip[1] + 0.33 * h * cos(lean))
        head = (hip[0] + 0.48 * h * sin(lean), hip[1] + 0.48 * h * cos(lean))
        for foot in feet:
            canvas.line([hip, _joint(hip, foot, 0.25 * h, 1), foot], 0.085 * h, TROUSERS)
            canvas.line([foot, (foot[0] + 0.05 * h, foot[1])], 0.06 * h, SHOES)
        canvas.line([hip, shoulder], 0.23 * h, SHIRTS[self.scene.colour])
        if self.scene.actor in ("woman", "girl"):
            self._skirt(hip, lean)
        for hand in hands:
            elbow = _joint(shoulder, hand, 0.19 * h, -1)
            canvas.line([elbow, hand], 0.06 * h, SKIN)
            canvas.line([shoulder, elbow], 0.085 * h, SHIRTS[self.scene.colour])
        self._head(head, lean)
        return shoulder

    def _skirt(self, hip: Point, lean: float) -> None:
        h = self.height
        along, across = (-sin(lean), -cos(lean)), (cos(lean), -sin(lean))
        corners = [(0.0, 0.11), (0.0, -0.11), (0.22, -0.2), (0.22, 0.2)]
        self.canvas.polygon(
            [(hip[0] + h * (a * along[0] + b * across[0]), hip[1] + h * (a * along[1] + b * across[1])) for a, b in corners], (90, 30, 60)
        )

    def _head(self, head: Point, lean: float) -> None:
        h, hair = self.height, HAIR[self.scene.actor]
        up = (sin(lean), cos(lean))
        if self.scene.actor in ("woman", "girl"):
            self.canvas.line([head, (head[0] - 0.13 * h * up[0] - 0.05 * h, head[1] - 0.13 * h * up[1])], 0.19 * h, hair)
        self.canvas.disc((head[0] + 0.025 * h * up[0], head[1] + 0.025 * h * up[1]), 0.105 * h, hair)
        self.canvas.disc((head[0] + 0.02 * h, head[1] - 0.02 * h * up[1]), 0.09 * h, SKIN)


def _joint(start: Point, end: Point, length: float, side: int) -> Point:
    """Return the elbow or knee of a limb of two segments of equal length that bends to one side."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    distance = max(float(np.hypot(dx, dy)), 1e-6)
    bend = max(length**2 - (distance / 2) ** 2, 0.0) ** 0.5
    return ((start[0] + end[0]) / 2 - side * -bend * dy / distance * -1, (start[1] + end[1]) / 2 + side * -bend * dx / distance * -1)


def draw_action(canvas: Canvas, scene: Scene, phase: float) -> None:
    """Draw the actor performing the action; `phase` counts its cycles."""
    ACTIONS[scene.action](Figure(canvas, scene), 2 * pi * phase)


def _bicycle(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    rear, front, pedal = (-0.3 * h, 0.2 * h), (0.34 * h, 0.2 * h), (0.0, 0.2 * h)
    for wheel in (rear, front):
        c.ring(wheel, 0.2 * h, 0.03 * h, BLACK)
        for k in range(3):
            a = t + k * pi / 3
            c.line(
                [
                    (wheel[0] - 0.18 * h * cos(a), wheel[1] + 0.18 * h * sin(a)),
                    (wheel[0] + 0.18 * h * cos(a), wheel[1] - 0.18 * h * sin(a)),
                ],
                0.01 * h,
                STEEL,
            )
    seat, bar = (-0.1 * h, 0.5 * h), (0.28 * h, 0.55 * h)
    for tube in ([rear, pedal, seat, rear], [pedal, (0.26 * h, 0.48 * h), seat], [front, bar]):
        c.line(tube, 0.03 * h, (200, 60, 20))
    feet = [(0.09 * h * cos(t + k), 0.2 * h - 0.09 * h * sin(t + k)) for k in (0.0, pi)]
    f.pose(seat, 0.5, (bar, bar), (feet[0], feet[1]))


def _barbell(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    y = h * (0.95 + 0.16 * sin(t))
    f.pose((0, 0.48 * h), 0.0, ((-0.2 * h, y), (0.2 * h, y)), ((-0.12 * h, 0), (0.12 * h, 0)))
    c.line([(-0.5 * h, y), (0.5 * h, y)], 0.03 * h, STEEL)
    for x in (-0.5, -0.43, 0.43, 0.5):
        c.line([(x * h, y - 0.15 * h), (x * h, y + 0.15 * h)], 0.06 * h, BLACK)


def _guitar(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    f.pose((0, 0.48 * h), 0.05 * sin(t), ((0.38 * h, 0.7 * h), (-0.05 * h, 0.55 * h)), ((-0.08 * h, 0), (0.1 * h, 0)))
    c.line([(0.0, 0.57 * h), (0.48 * h, 0.75 * h)], 0.045 * h, (70, 40, 20))
    c.disc((-0.06 * h, 0.54 * h), 0.15 * h, (215, 130, 45))
    c.disc((0.07 * h, 0.59 * h), 0.11 * h, (215, 130, 45))
    c.disc((0.0, 0.565 * h), 0.05 * h, BLACK)
    c.line([(-0.25 * h, 0.78 * h), (-0.04 * h, (0.55 + 0.08 * sin(2 * t)) * h)], 0.06 * h, SKIN)


def _ladder(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    for x in (-0.17, 0.17):
        c.line([(x * h, -0.05 * h), (x * h, 1.6)], 0.04 * h, WOOD)
    for y in np.arange(0.1, 1.6, 0.16):
        c.line([(-0.17 * h, float(y)), (0.17 * h, float(y))], 0.035 * h, WOOD)
    lift = 0.1 * h * sin(t)
    y = 0.62 * h + 0.06 * h * sin(2 * t)
    f.pose(
        (0, y),
        0.0,
        ((-0.15 * h, y + 0.55 * h + lift), (0.15 * h, y + 0.55 * h - lift)),
        ((-0.12 * h, y - 0.42 * h - lift), (0.12 * h, y - 0.42 * h + lift)),
    )


def _rope(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    jump = 0.16 * h * max(0.0, sin(t))
    hands = ((-0.3 * h, 0.52 * h + jump), (0.3 * h, 0.52 * h + jump))
    top = 0.55 * h - 0.75 * h * sin(t)
    f.pose((0, 0.48 * h + jump), 0.0, hands, ((-0.06 * h, jump), (0.06 * h, jump)))
    arc = [(x * h, hands[0][1] + (top - 0.0) * (1 - (x / 0.42) ** 2) - 0.0) for x in np.linspace(-0.42, 0.42, 17)]
    c.line([hands[0], *[(float(x), float(max(y, 0.0))) for x, y in arc], hands[1]], 0.025 * h, (240, 120, 20))


def _ball(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    swing = sin(t)
    foot = (0.32 * h * swing, 0.06 * h + 0.16 * h * max(swing, 0.0))
    f.pose((0, 0.48 * h), -0.15 * swing, ((-0.3 * h * swing, 0.6 * h), (0.3 * h * swing, 0.6 * h)), ((-0.04 * h, 0), foot))
    x, y = 0.48 * h + 0.25 * h * max(swing, 0.0), 0.12 * h + 0.3 * h * max(swing, 0.0)
    c.disc((x, y), 0.125 * h, (250, 250, 250))
    for k in range(5):
        a = t + k * 2 * pi / 5
        c.disc((x + 0.075 * h * cos(a), y + 0.075 * h * sin(a)), 0.03 * h, BLACK)


def _push_ups(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    c.polygon([(-0.75 * h, -0.05), (0.75 * h, -0.05), (0.75 * h, -0.01), (-0.75 * h, -0.01)], (40, 150, 160))
    dip = 0.12 * h * (1 + sin(t)) / 2
    f.pose(
        (0.0, 0.22 * h - 0.4 * dip), pi / 2 - 0.3 + dip, ((0.3 * h, 0.0), (0.34 * h, 0.0)), ((-0.48 * h, 0.03 * h), (-0.5 * h, 0.03 * h))
    )


def _umbrella(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    sway = 0.06 * h * sin(t)
    c.line([(0.16 * h, 0.6 * h), (0.16 * h + sway, 1.2 * h)], 0.025 * h, BLACK)
    dome = [(0.16 * h + sway + 0.5 * h * cos(a), 1.1 * h + 0.3 * h * sin(a)) for a in np.linspace(0, pi, 15)]
    f.pose((0, 0.48 * h), 0.0, ((0.16 * h, 0.62 * h), (-0.14 * h, 0.45 * h)), ((-0.08 * h + 0.1 * sway, 0), (0.09 * h, 0)))
    for k in range(5):
        c.polygon(
            [dome[0], *dome, dome[-1]] if k == 0 else [(0.16 * h + sway, 1.4 * h), *dome[3 * k - 1 : 3 * k + 1]],
            (235, 80, 150) if k == 0 else (250, 200, 220),
        )


def _boat(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    lean = 0.4 * sin(t)
    f.pose(
        (0.0, 0.22 * h),
        lean,
        ((0.25 * h + 0.15 * h * sin(t), 0.42 * h), (0.22 * h + 0.15 * h * sin(t), 0.42 * h)),
        ((0.35 * h, 0.2 * h), (0.38 * h, 0.2 * h)),
    )
    c.line([(0.22 * h + 0.15 * h * sin(t), 0.42 * h), (-0.45 * h * cos(t) + 0.1 * h, -0.02 + 0.08 * h * sin(t))], 0.035 * h, WOOD)
    c.polygon([(-0.75 * h, 0.24 * h), (0.75 * h, 0.24 * h), (0.55 * h, 0.0), (-0.55 * h, 0.0)], (130, 70, 30))
    c.polygon([(-1.2, 0.03), (1.2, 0.03), (1.2, -0.16), (-1.2, -0.16)], (40, 120, 190))


def _kite(f: Figure, t: float) -> None:
    h, c = f.height, f.canvas
    x, y = 0.55 + 0.1 * sin(t), 1.2 + 0.12 * cos(t)
    hand = (0.25 * h, 0.8 * h)
    f.pose((-0.3 * h, 0.48 * h), -0.1, ((hand[0] - 0.3 * h, hand[1]), (hand[0] - 0.35 * h, hand[1])), ((-0.4 * h, 0), (-0.2 * h, 0)))
    c.line([(hand[0] - 0.3 * h, hand[1]), (x, y)], 0.012, (240, 240, 240))
    c.polygon([(x, y + 0.25), (x + 0.18, y), (x, y - 0.25), (x - 0.18, y)], (240, 90, 20))
    c.polygon([(x, y + 0.25), (x + 0.18, y), (x, y)], (30, 60, 200))
    tail = [(x - 0.05 * k + 0.04 * sin(t + k), y - 0.25 - 0.07 * k) for k in range(5)]
    c.line(tail, 0.03, (250, 220, 40))


def _waving(f: Figure, t: float) -> None:
    h = f.height
    swing = 0.14 * h * sin(2 * t)
    f.pose((0, 0.48 * h), 0.0, ((-0.3 * h + swing, 1.12 * h), (0.3 * h - swing, 1.12 * h)), ((-0.13 * h, 0), (0.13 * h, 0)))


def _handstand(f: Figure, t: float) -> None:
    h = f.height
    sway = 0.1 * sin(t)
    hip = (0.33 * h * sway, 0.68 * h)
    f.pose(
        hip,
        pi + sway,
        ((-0.1 * h, 0.0), (0.1 * h, 0.0)),
        ((hip[0] - (0.1 + 0.12 * sin(t)) * h, 1.12 * h), (hip[0] + (0.1 + 0.12 * sin(t)) * h, 1.12 * h)),
    )


ACTIONS: dict[str, Callable[[Figure, float], None]] = {
    "riding a bicycle": _bicycle,
    "lifting a barbell": _barbell,
    "playing the guitar": _guitar,
    "climbing a ladder": _ladder,
    "jumping rope": _rope,
    "kicking a ball": _ball,
    "doing push-ups": _push_ups,
    "holding an umbrella": _umbrella,
    "rowing a boat": _boat,
    "flying a kite": _kite,
    "waving both arms": _waving,
    "doing a handstand": _handstand,
}
