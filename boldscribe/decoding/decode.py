"""Decoding under a condition: text from prompt and fMRI tokens alone, or what stands in their place (paper 3.2; design section 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.config import Config
from boldscribe.decoding import brain
from boldscribe.errors import UserError
from boldscribe.files import atomic


@dataclass(frozen=True)
class Task:
    """What is decoded, and the files that its condition may open.

    Attributes:
        config, dataset, condition: of the experiment.
        trials: trial indices of the target subjects.
        files: further inputs by name, as `Condition.reads` and the rule `decode` call them; `models` are the model folders.
    """

    config: Config
    dataset: str
    condition: str
    trials: Sequence[Path]
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    @cached_property
    def test(self) -> pd.DataFrame:
        """The target subjects' test trials, ordered by subject and trial.

        Raises:
            UserError: a target subject without.
        """
        index = pd.concat([pd.read_parquet(path) for path in self.trials])
        test = index[index["role"] == "test"].sort_values(["subject", "trial"], ignore_index=True)
        wanted = self.config.datasets[self.dataset].validation_subjects
        if absent := sorted(set(wanted) - set(test["subject"])):
            raise UserError(
                ", ".join(map(str, self.trials)),
                f"role: found no trial with 'test' of sub-{', sub-'.join(absent)}; name test_runs in the configuration",
            )
        return test

    def one(self, name: str) -> Path:
        """The only file of that name.

        Raises:
            UserError: none or several were given.
        """
        if len(paths := self.files.get(name, [])) != 1:
            raise UserError(f"--{name.replace('_', '-')}", f"found {len(paths)} files, expected one for condition {self.condition!r}")
        return paths[0]


WRITERS: dict[str, Callable[[Task], list[str]]] = {
    **dict.fromkeys(
        ("model", "noise", "noisetrained", "untrained", "noadaptation", "clusteringonly", "separationonly", "bothadaptation"),
        brain.own_tokens,
    ),
    "llm": brain.no_tokens,
    "mean": brain.mean_token,
    "shuffled": brain.shuffled,
}


def decode(task: Task, output: Path) -> None:
    """Write `subject, trial, instruction, prediction` of the target subjects' test trials under a condition.

    Raises:
        UserError: no such condition, an input that it needs is missing or one is given that it may not open, or too few test trials.
    """
    if task.condition not in CONDITIONS:
        raise UserError("condition", f"found {task.condition!r}, expected one of {', '.join(CONDITIONS)}")
    texts = WRITERS[task.condition](task)
    with atomic(output) as part:
        task.test[["subject", "trial", "instruction"]].assign(prediction=texts).to_parquet(part, index=False)
