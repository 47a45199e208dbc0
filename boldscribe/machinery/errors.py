"""Errors that a user can act on, and the early exit of a job, which is none."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

REQUEUED = os.EX_TEMPFAIL  # 75, "try again later"


class UserError(Exception):
    """Bad input, shown without a traceback; states the file, what was found, what is expected and what to do.

    Args:
        where: file, field or setting at fault.
        problems: one sentence each: field, found, expected, remedy.
    """

    def __init__(self, where: str, *problems: str) -> None:
        self.where = where
        self.problems = problems
        super().__init__(f"{where}: " + "; ".join(problems) if len(problems) == 1 else "\n  - ".join([f"{where}:", *problems]))

    def __reduce__(self) -> tuple[type[Exception], tuple[str, ...]]:
        """Make the error picklable, so that one of a worker process arrives as it was raised."""
        return type(self), (self.where, *self.problems)


class Preempted(SystemExit):
    """Exit of a step that a signal ended before its work was done; not a failure.

    Args:
        number: the signal.
        gained: whether the job has saved further steps, so that another job like it would make progress.
    """

    def __init__(self, number: signal.Signals, gained: bool = False) -> None:
        self.number, self.gained = number, gained
        super().__init__(REQUEUED if number is signal.SIGURG else 128 + number)

    def __str__(self) -> str:
        return f"preempted: {self.number.name}"


def user_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show a command's user errors as messages, not as tracebacks."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError as error:
            sys.exit(f"error: {error}")

    return wrapped
