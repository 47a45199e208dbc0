"""Decoding under a condition: text from prompt and fMRI tokens alone, or what stands in their place (paper 3.2; docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from boldscribe.conditions import CONDITIONS
from boldscribe.decoding.task import Task
from boldscribe.files import atomic


def decode(task: Task, output: Path) -> None:
    """Write `subject, trial, instruction, prediction` of the target subjects' test trials under a condition.

    Raises:
        UserError: no such condition, an input that it needs is missing or one is given that it may not open, or too few test trials.
    """
    task.check_inputs()
    texts = writer(task.condition)(task)
    with atomic(output) as part:
        task.test[["subject", "trial", "instruction"]].assign(prediction=texts).to_parquet(part, index=False)


def writer(condition: str) -> Callable[[Task], list[str]]:
    """What writes a condition's texts, one per test trial.

    Imported when it is asked for, since a job writes one condition: choosing captions needs neither torch nor the LLM's library,
    which take seconds.
    """
    reads = CONDITIONS[condition].reads
    if "series" in reads:
        from boldscribe.decoding.ridge import linear

        return linear
    if "llm" in reads:
        from boldscribe.decoding import brain

        return brain.WRITERS[condition]
    from boldscribe.decoding import captions

    return captions.WRITERS[condition]
