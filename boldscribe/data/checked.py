"""Preflight findings of a data set, collected once over all subjects and stored as JSON for later steps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError

OPTIONAL = {"renamed_clips"}  # not written where there are none, as in nearly all data sets


@dataclass(frozen=True)
class Checked:
    """Preflight findings of a data set.

    Attributes:
        lead_in: time from the first volume to the zero point of the onsets (s).
        broken_clips: reason why a clip cannot be decoded, by `stim_file`.
        kept_for_training, kept_for_testing: video sources that the strict split assigns to one side, by name of the fold, or of the
            data set if it is not rotated.
        renamed_clips: file by `stim_file` in the events, where its name is spelled differently (`other_spellings`).
    """

    lead_in: float = 0.0
    broken_clips: dict[str, str] = field(default_factory=dict)
    kept_for_training: dict[str, list[str]] = field(default_factory=dict)
    kept_for_testing: dict[str, list[str]] = field(default_factory=dict)
    renamed_clips: dict[str, str] = field(default_factory=dict)

    def as_report(self) -> dict[str, Any]:
        """Return the entries of the JSON; `renamed_clips` only if there are any."""
        entries = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in entries.items() if value or name not in OPTIONAL}


def read_checked(path: Path) -> Checked:
    """Read the findings from the JSON that `check_dataset` writes.

    Raises:
        UserError: the file cannot be read or does not hold these findings.
    """
    try:
        report = json.loads(path.read_text())
        return Checked(**{name: report[name] for name in Checked.__dataclass_fields__ if name in report or name not in OPTIONAL})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            str(path), f"does not contain the findings of check_dataset ({error!r}); delete it and run the stage again"
        ) from None
