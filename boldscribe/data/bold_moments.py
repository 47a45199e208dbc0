"""BOLD Moments (OpenNeuro ds005165, version 1.0.4): what its events do not say of a clip, people's annotations do.

Its `trial_type` is `test` or `train`. Runs are numbered anew in each of four sessions and two tasks. The clips are not in the repository
(docs/bold-moments.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from boldscribe.config.data_settings import ANNOTATIONS
from boldscribe.machinery.errors import UserError


def action_of(clip: str, bids_dir: str | Path) -> str | None:
    """Return the action that most annotators saw in a clip, of equally frequent ones the first by name; None if they named none.

    Args:
        clip: `stim_file`, such as `train/0444.mp4`, of which the annotations have the number.
        bids_dir: root of the data set.

    Raises:
        UserError: the annotations are missing, or are not those of BOLD Moments.
    """
    return _actions(Path(bids_dir) / ANNOTATIONS).get(PurePosixPath(clip).stem)


@lru_cache(maxsize=4)
def _actions(path: Path) -> dict[str, str]:
    """Read the most frequent action of each annotated clip, by its number."""
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            str(path), f"found no annotations ({error.strerror}), expected the actions of all clips; fetch them (docs/bold-moments.md)"
        ) from None
    except ValueError as error:
        raise UserError(str(path), f"not JSON ({error}); fetch it again") from None
    if not isinstance(annotations, dict) or not all(isinstance(one, dict) for one in annotations.values()):
        raise UserError(str(path), "found another form than {NUMBER: {actions: [...], ...}}, expected that of ds005165; fetch it again")
    counts = {number: Counter(_labels(one.get("actions"))) for number, one in annotations.items()}
    return {number: min(found, key=lambda action: (-found[action], action)) for number, found in counts.items() if found}


def _labels(entry: Any) -> Iterator[str]:
    """Yield the labels in a list, or a list of each annotator's; `--` stands for none."""
    if isinstance(entry, str) and entry.strip() not in ("", "--"):
        yield entry.strip()
    elif isinstance(entry, list):
        for one in entry:
            yield from _labels(one)
