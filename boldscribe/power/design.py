"""Design whose power is estimated, and the experiment that simulates it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError

DATASET = "power"
RUNS = 2  # per subject; a target subject's first run is for adaptation, the second for the test


@dataclass(frozen=True, order=True)
class Design:
    """Design of an experiment: numbers that a lab decides on, and the SNR that it hopes for.

    Attributes:
        source, target: numbers of subjects.
        trials: per run; source subjects are trained on both runs, target subjects are tested on one.
        snr: `simulation.snr`.
    """

    source: int
    target: int
    trials: int
    snr: float

    @property
    def label(self) -> str:
        """Label for file names."""
        return f"subjects-{self.source}+{self.target}_trials-{self.trials}_snr-{self.snr:g}"

    @property
    def n_clips(self) -> int:
        """Number of clips; each is seen by one subject once."""
        return (self.source + self.target) * RUNS * self.trials

    def as_row(self) -> dict[str, Any]:
        """Return the design as columns of a table."""
        return asdict(self)


def designs(subjects: str, trials: str, snr: str) -> list[Design]:
    """Parse lists such as `4+2,8+2`, `48,96` and `0,0.5,1` into all combinations.

    Raises:
        UserError: another format, fewer than two source subjects, no target subject, fewer than 8 trials, or a negative SNR.
    """
    people = []
    for text in subjects.split(","):
        if not (found := re.fullmatch(r"(\d+)\+(\d+)", text.strip())) or int(found[1]) < 2 or int(found[2]) < 1:
            raise UserError(
                "--subjects", f"found {text!r}, expected SOURCE+TARGET with at least 2+1, such as 4+2; separate several with commas"
            )
        people.append((int(found[1]), int(found[2])))
    counts, ratios = _numbers("--trials", trials, int, 8), _numbers("--snr", snr, float, 0)
    return sorted({Design(*who, n, ratio) for who, n, ratio in product(people, counts, ratios)})


def _numbers(option: str, text: str, kind: type[Any], least: int) -> list[Any]:
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < least:
        raise UserError(option, f"found {text!r}, expected numbers of at least {least}, separated by commas")
    return values


def experiment(base: Config, design: Design, seed: int, results: Path) -> Config:
    """Build the configuration of one simulated experiment, a data set called `power`."""
    raw = base.model_dump(by_alias=True)
    people = [f"{i:02d}" for i in range(1, design.source + design.target + 1)]
    raw["datasets"] = {
        DATASET: {
            "title": "Power",
            "session": None,
            "simulated": {"subjects": len(people), "runs": RUNS, "trials_per_run": design.trials, "shared_clips": False},
            "train_subjects": people[: design.source],
            "validation_subjects": people[design.source :],
            "adaptation_runs": ["01"],
            "test_runs": ["02"],
        }
    }
    raw["seed"], raw["paths"]["results"], raw["simulation"]["snr"], raw["stimuli"]["shards"] = seed, str(results), design.snr, 1
    return Config.parse(raw, "the fast configuration")
