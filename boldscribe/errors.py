"""Errors that a user can act on."""


class UserError(Exception):
    """Bad input: says which file, what was found, what is expected and what to do; shown without a traceback.

    Args:
        where: file, field or setting that is at fault.
        problems: one sentence each: field, found, expected, remedy.
    """

    def __init__(self, where: str, *problems: str) -> None:
        self.where = where
        self.problems = problems
        super().__init__(f"{where}: " + "; ".join(problems) if len(problems) == 1 else "\n  - ".join([f"{where}:", *problems]))
