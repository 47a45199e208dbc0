"""What the preflight of a data set found, and later steps go by: read once over all subjects, written as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boldscribe.errors import UserError


@dataclass(frozen=True)
class Checked:
    """Findings about a data set.

    Attributes:
        lead_in: time from the first volume to the zero of the onsets (s).
        broken_clips: why a clip cannot be decoded, by `stim_file`.
        kept_for_training, kept_for_testing: video sources that the strict split gives to one side, by the name of the fold, or of the
            data set if it is not rotated.
    """

    lead_in: float = 0.0
    broken_clips: dict[str, str] = field(default_factory=dict)
    kept_for_training: dict[str, list[str]] = field(default_factory=dict)
    kept_for_testing: dict[str, list[str]] = field(default_factory=dict)

    def as_report(self) -> dict[str, Any]:
        """The entries of the JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def read_checked(path: Path) -> Checked:
    """Read the findings from the JSON that `check_dataset` writes.

    Raises:
        UserError: not such a file.
    """
    try:
        report = json.loads(path.read_text())
        return Checked(**{name: report[name] for name in Checked.__dataclass_fields__})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(str(path), f"not the findings of check_dataset ({error!r}); delete it and run the stage again") from None
