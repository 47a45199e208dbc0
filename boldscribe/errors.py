"""Errors that a user can act on."""

import functools
import sys
from collections.abc import Callable
from typing import Any


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


def user_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show a command's user errors as messages, not as tracebacks."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError as error:
            sys.exit(f"error: {error}")

    return wrapped
