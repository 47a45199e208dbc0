"""Decoding under a condition: text only from prompt and fMRI tokens, or from what replaces them (paper 3.2; docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from boldscribe.conditions import CONDITIONS
from boldscribe.decoding.task import Task
from boldscribe.machinery.files import atomic


def decode(task: Task, output: Path) -> None:
    """Write `subject, trial, instruction, prediction` of the target subjects' test trials under a condition.

    Raises:
        UserError: the condition is unknown; a required input is missing, or one is given that it may not open; too few test trials.
    """
    task.check_inputs()
    texts = writer(task.condition)(task)
    with atomic(output) as part:
        task.test[["subject", "trial", "instruction"]].assign(prediction=texts).to_parquet(part, index=False)


def writer(condition: str) -> Callable[[Task], list[str]]:
    """Import the function that writes a condition's texts, one per test trial.

    The import is deferred because a job writes one condition: choosing captions needs neither torch nor the LLM's library, which
    take seconds to import.
    """
    module, _, function = CONDITIONS[condition].writer.partition(".")
    found: Callable[[Task], list[str]]
    if module == "brain":
        from boldscribe.decoding import brain

        found = getattr(brain, function)
    elif module == "ridge":
        from boldscribe.decoding import ridge

        found = getattr(ridge, function)
    else:
        from boldscribe.decoding import chosen_captions

        found = getattr(chosen_captions, function)
    return found
