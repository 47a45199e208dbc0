"""Which of a subject's runs belong to a data set, and their labels.

A label is the run's number, `01`. In a data set of several sessions or tasks, where numbers start anew in each, the label also has these:
`ses-02_task-test_run-01`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

# Entities that runs have, as the split names them: `01`, `task-test`, `ses-02_run-01`
RunNames = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$|^[a-z]+-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*$")]


def run_label(label: str | int | None) -> str:
    """Normalise a run label for comparison and storage: two digits for numbers; a file without `run` is run 01.

    fMRIPrep keeps the raw name, and data sets use both `run-1` and `run-01`.
    """
    text = "01" if label is None else str(label)
    return f"{int(text):02d}" if text.isdigit() else text


def label_parts(label: str) -> dict[str, str]:
    """Return the entities in a run's label, by their keys in file names; a label without keys is the run's number."""
    parts = dict(part.partition("-")[::2] for part in label.split("_")) if "-" in label else {"run": label}
    return parts | {"run": run_label(parts["run"])} if "run" in parts else parts


def label_of(parts: Mapping[str, str]) -> str:
    """Write entities as a label, the inverse of `label_parts`; a number without further entities has no key."""
    return parts["run"] if list(parts) == ["run"] else "_".join(f"{key}-{value}" for key, value in parts.items())


@dataclass(frozen=True)
class RunChoice:
    """The runs of a data set.

    Attributes:
        tasks, sessions: labels; None for files outside a session.
        apart: entities besides `run` that distinguish runs, by their keys in file names, in that order.
        variant: entities that choose among several files of a run; None for files without this entity.
    """

    tasks: tuple[str, ...]
    sessions: tuple[str | None, ...] = (None,)
    apart: tuple[str, ...] = ()
    variant: Mapping[str, str | None] = field(default_factory=dict)

    def label(self, parts: Mapping[str, str]) -> str:
        """Return the label of a run from the entities in a file's name."""
        return label_of({key: parts[key] for key in self.apart if key in parts} | {"run": run_label(parts.get("run"))})

    def parts(self, label: str) -> dict[str, str | None]:
        """Return session, task and number of a run by its label, and what else the label has: `ses`, `task`, `run`, ..."""
        only: dict[str, str | None] = {}
        if len(self.sessions) == 1:
            only["ses"] = self.sessions[0]
        if len(self.tasks) == 1:
            only["task"] = self.tasks[0]
        return only | label_parts(label)

    def names(self, entries: Iterable[str], label: str) -> bool:
        """Return whether any entry names a run: `01`, `task-test`, `ses-02_run-01`, ... A run has all entities of its entry."""
        own = self.parts(label)
        return any(all(own.get(key) == value for key, value in label_parts(entry).items()) for entry in entries)

    @property
    def only_session(self) -> str | None:
        """The session, if there is one only."""
        return self.sessions[0] if len(self.sessions) == 1 else None

    @property
    def words(self) -> str:
        """The choice in words, such as `task-test or task-train in ses-02`."""
        tasks = " or ".join(f"task-{task}" for task in self.tasks)
        sessions = " or ".join(f"ses-{session}" for session in self.sessions if session)
        return f"{tasks} in {sessions}" if sessions else tasks
