"""Retries of failed jobs that more memory or time may help, but not of those that ended with a user's mistake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boldscribe.machinery.provenance.ledger import new_failures

MISTAKE = "failed: UserError"


class Retries(int):
    """Number of retries of a rule's failed jobs, which Snakemake compares with the attempts of a job.

    Snakemake only knows one number per rule. So once a job of a rule has ended with a user's mistake, no failed job of this rule is retried
    before the next call: an error in a subject's file or in the configuration must be fixed by hand in any case.
    """

    results: Path
    rule: str
    since: str

    def __new__(cls, number: int, results: Path, rule: str) -> Retries:
        """Create the retries of a rule whose ledger lies in a results tree; mistakes of earlier calls do not count."""
        self = super().__new__(cls, number)
        self.results, self.rule, self.since = results, rule, datetime.now(UTC).isoformat()
        return self

    def __gt__(self, attempts: object) -> bool:
        """Return whether another attempt follows this many."""
        if not isinstance(attempts, int) or isinstance(attempts, Retries):
            return NotImplemented
        return int(self) > attempts and not self.mistaken()

    def mistaken(self) -> bool:
        """Return whether a job of the rule has ended with a user's mistake since the call began."""
        return any(e["exit"] == MISTAKE and e["ended"] >= self.since for e in new_failures(self.results, self.rule))


def spare_mistakes(rules: Iterable[Any], number: int, results: Path) -> None:
    """Set the retries of each of Snakemake's rules."""
    for rule in rules:
        rule.restart_times = Retries(number, results, rule.name)
