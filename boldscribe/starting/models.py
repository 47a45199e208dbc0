"""Proposed settings besides the data set: the embedded models, a tokenizer grid that fits, and sizes that the data allow."""

from __future__ import annotations

import math
from typing import Any

import yaml

from boldscribe.config import Config
from boldscribe.config.brain_size import fitting_grid
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.files import ROOT
from boldscribe.planning.dataset_counts import design_of
from boldscribe.planning.feasibility import ASSUMED, SMALLEST_HOLDOUT, fitting_holdout, training_trials

PROFILE = ROOT / "profiles" / "demo" / "experiment.yaml"
ELSEWHERE = ("paths", "datasets", "preprocessing")  # sections of the profile that belong to its own data
MOST_TOKENS = 256  # for which the embedded encoder trains in minutes on a laptop
WINDOW_SECONDS = 6.0  # that the default window covers: 3 volumes of 2 s

Sections = dict[str, dict[str, Any]]


def window_of(repetition_time: float | None) -> Sections:
    """Return the section `bold` if the default number of volumes does not cover the default window; nothing if the TR is not known."""
    if not repetition_time or (n := max(1, round(WINDOW_SECONDS / repetition_time))) == Config().bold.n_volumes:
        return {}
    return {"bold": {"n_volumes": n}}


def embedded_models(resolution: float) -> Sections:
    """Return the sections of the demo's profile that are no data of its own, with a tokenizer that fits the resolution.

    Args:
        resolution: edge of the voxels in template space (mm).
    """
    profile = yaml.safe_load(PROFILE.read_text())
    sections = {name: values for name, values in profile.items() if name not in ELSEWHERE}
    grid, stages = _grid_of(resolution)
    first, *middle, last = sections["tokenizer"]["channels"]
    channels = [first, *middle, *[2 * middle[-1]] * (stages - len(middle) - 2), last]
    return sections | {"tokenizer": sections["tokenizer"] | {"grid": list(grid), "channels": channels}}


def _grid_of(resolution: float) -> tuple[tuple[int, int, int], int]:
    """Return a grid that contains a brain, and the fewest stages, from three, that leave few enough tokens."""
    stages = 3
    while math.prod(n // 2**stages for n in fitting_grid(resolution, stages)) > MOST_TOKENS:
        stages += 1
    return fitting_grid(resolution, stages), stages


def fitting_sizes(config: Config, name: str) -> Sections:
    """Return what must change in `stage1` and `stage2` so that holdout and batches fit the trials of a data set."""
    design = design_of(config, name)
    clips, trials, adapt = design.clips["train"], design.trials["train"], design.trials["adapt"]
    if design.origin == ASSUMED or clips < 2 * SMALLEST_HOLDOUT or not adapt:
        return {}  # not known yet, or nothing that a setting could mend
    s1, s2 = config.stage1, config.stage2
    changes: Sections = {"stage1": {}, "stage2": {}}
    held = max(2, round(s1.holdout * clips))
    if held < SMALLEST_HOLDOUT:
        changes["stage1"]["holdout"] = fitting_holdout(clips)
        held = round(fitting_holdout(clips) * clips)
    if s1.batch_size > (n := training_trials(trials, clips, held)):
        changes["stage1"]["batch_size"] = _power_of_two(n)
    if s2.batch_size * s2.accumulate > (n := min(trials, adapt)):
        size = min(s2.batch_size, _power_of_two(n))
        changes["stage2"] = {"batch_size": size, "accumulate": n // size}
    return {section: values for section, values in changes.items() if values}


def _power_of_two(n: int) -> int:
    return 2 ** int(math.log2(max(n, 1)))


def merged(*parts: Sections) -> Sections:
    """Merge sections, later ones over earlier ones."""
    whole: Sections = {}
    for part in parts:
        whole = merge(whole, part)
    return whole
