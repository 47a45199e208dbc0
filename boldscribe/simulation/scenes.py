"""Content of a rendered clip (an actor in a coloured shirt performs an action somewhere), and captions as people would write them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOCABULARY: dict[str, tuple[str, ...]] = {
    "action": (
        "riding a bicycle",
        "lifting a barbell",
        "playing the guitar",
        "climbing a ladder",
        "jumping rope",
        "kicking a ball",
        "doing push-ups",
        "holding an umbrella",
        "rowing a boat",
        "flying a kite",
        "waving both arms",
        "doing a handstand",
    ),
    "actor": ("man", "woman", "boy", "girl"),
    "colour": ("red", "blue", "green", "yellow", "purple", "white"),
    "place": ("beach", "forest", "street", "gym", "desert"),
    "speed": ("slow", "fast"),
    "direction": ("left", "right"),
}

_PLACE_PHRASE = {
    "beach": "on a beach",
    "forest": "in a forest",
    "street": "on a street",
    "gym": "in a gym",
    "desert": "in a desert",
}
# Openings of an answer, so that captions vary as people's do; the facts follow in the same order.
_OPENINGS = (
    "{A} in a {colour} shirt is {action} {place}.",
    "In the video, {a} in a {colour} shirt is {action} {place}.",
    "The video shows {a} in a {colour} shirt {action} {place}.",
    "We see {a} wearing a {colour} shirt, {action} {place}.",
)


@dataclass(frozen=True)
class Scene:
    """Ground truth of a clip; `seed` sets what no caption mentions (position, size, phase of the movement)."""

    action: str
    actor: str
    colour: str
    place: str
    speed: str
    direction: str
    seed: int


def draw_scenes(n: int, rng: np.random.Generator) -> list[Scene]:
    """Draw n scenes, with every field as balanced as n allows and fields independent of each other."""
    columns = {name: _balanced(values, n, rng) for name, values in VOCABULARY.items()}
    seeds = rng.integers(0, 2**31, size=n)
    return [Scene(**{name: columns[name][i] for name in VOCABULARY}, seed=int(seeds[i])) for i in range(n)]


def _balanced(values: tuple[str, ...], n: int, rng: np.random.Generator) -> list[str]:
    repeats = -(-n // len(values))
    pool = [v for _ in range(repeats) for v in rng.permutation(values)][:n]
    return [str(v) for v in rng.permutation(pool)]


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption that names actor, shirt colour, action and place, in one of several wordings."""
    return _say(scene, _OPENINGS[int(rng.integers(len(_OPENINGS)))])


def ground_truth(scene: Scene) -> str:
    """Describe a clip, always in the same wording, as simulated data sets do."""
    return _say(scene, _OPENINGS[0])


def _say(scene: Scene, opening: str) -> str:
    return opening.format(
        A=f"A {scene.actor}", a=f"a {scene.actor}", colour=scene.colour, action=scene.action, place=_PLACE_PHRASE[scene.place]
    )
