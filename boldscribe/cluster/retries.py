"""Which failed jobs are tried again: those that more memory or time may help, and not those that ended at a user's mistake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boldscribe.provenance.ledger import new_failures

MISTAKE = "failed: UserError"


class Retries(int):
    """How often a rule's failed jobs are tried again: Snakemake compares it with the attempts that a job has had.

    Snakemake knows a number per rule alone. So once a job of a rule has ended at a user's mistake, no failed job of this rule is tried
    again before the next call: what is wrong in one subject's file, or in the configuration, is mended by hand in any case.
    """

    results: Path
    rule: str
    since: str

    def __new__(cls, number: int, results: Path, rule: str) -> Retries:
        """Retries of a rule whose ledger lies in a results tree; mistakes of earlier calls do not count."""
        self = super().__new__(cls, number)
        self.results, self.rule, self.since = results, rule, datetime.now(UTC).isoformat()
        return self

    def __gt__(self, attempts: object) -> bool:
        """Whether there is another attempt after so many."""
        if not isinstance(attempts, int) or isinstance(attempts, Retries):
            return NotImplemented
        return int(self) > attempts and not self.mistaken()

    def mistaken(self) -> bool:
        """Whether a job of the rule has ended at a user's mistake since."""
        return any(e["exit"] == MISTAKE and e["ended"] >= self.since for e in new_failures(self.results, self.rule))


def spare_mistakes(rules: Iterable[Any], number: int, results: Path) -> None:
    """Give each of Snakemake's rules its retries."""
    for rule in rules:
        rule.restart_times = Retries(number, results, rule.name)
