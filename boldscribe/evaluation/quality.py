"""Data quality of each subject: how much data there is, what is excluded and why, and how much the head moved.

Series are z-scored per run and voxel, so a temporal signal-to-noise ratio can no longer be computed from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.config import Config
from boldscribe.data.reasons import AVERAGED, BROKEN, OTHER_SIDE, OUTSIDE, UNANSWERED, UNDESCRIBED, UNUSABLE
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array

REASONS = {
    **{"outside_run": (OUTSIDE,), "broken_clip": (BROKEN,), "no_response": (UNANSWERED,), "other_side_of_split": (OTHER_SIDE,)},
    **{"invalid_event": UNUSABLE, "no_description": (UNDESCRIBED,), "averaged": (AVERAGED,)},
}
RARE = ("invalid_event", "no_description", "averaged")  # columns only where there are any
COLUMNS = [
    *("dataset", "subject", "role", "runs", "volumes", "voxels", "trials", "trials_left_out", *REASONS, "missing_responses"),
    *("displacement_mean", "displacement_max", "volumes_above_limit", "trials_in_high_motion"),
]


def write_quality(
    config: Config,
    dataset: str,
    *,
    series: Sequence[Path],
    displacement: Sequence[Path],
    trials: Sequence[Path],
    excluded: Sequence[Path],
    checked: Path,
    csv: Path,
) -> None:
    """Write one line per subject, source subjects first, with the columns `COLUMNS`, of `RARE` only those that count any.

    Args:
        config: the experiment (`bold.framewise_displacement`).
        dataset: its label.
        series, displacement, trials, excluded: of all subjects, each in the order of subjects (docs/data.md).
        checked: findings of `check_dataset`.
        csv: `runs`, `volumes` (rows of the series) and `voxels` of the brain; included `trials`, excluded trials (`trials_left_out`)
            and their number by reason; `missing_responses` of all trials, included or not; `displacement_mean` and
            `displacement_max` (framewise, mm), `volumes_above_limit` (% of the volumes that have a displacement), and
            `trials_in_high_motion`, which have such a volume in their window. Blank where no displacement is known.

    Raises:
        UserError: files of subjects other than the configured ones, or findings without missing responses.
    """
    design = config.datasets[dataset]
    roles = dict.fromkeys(design.train_subjects, "source") | dict.fromkeys(design.validation_subjects, "target")
    missing = _missing_responses(checked, roles)
    lines = []
    for (subject, role), *files in zip(roles.items(), series, displacement, trials, excluded, strict=True):
        header = load_array(files[0])[1]
        if header["subject"] != subject:
            raise UserError(
                str(files[0]), f"subject: found {header['subject']}, expected {subject}; pass the files in the order of the subjects"
            )
        moved = load_array(files[1])[0]
        moved = moved[np.isfinite(moved)]
        kept, left_out = pd.read_parquet(files[2]), pd.read_parquet(files[3])
        limit = config.bold.framewise_displacement
        lines.append(
            {
                "dataset": dataset,
                "subject": subject,
                "role": role,
                "runs": len(header["runs"]),
                "volumes": header["shape"][0],
                "voxels": header["shape"][1],
                "trials": len(kept),
                "trials_left_out": len(left_out),
                **{name: int(left_out["reason"].isin(reasons).sum()) for name, reasons in REASONS.items()},
                "missing_responses": missing[subject],
                "displacement_mean": moved.mean() if len(moved) else np.nan,
                "displacement_max": moved.max() if len(moved) else np.nan,
                "volumes_above_limit": 100 * (moved > limit).mean() if len(moved) else np.nan,
                "trials_in_high_motion": int((kept["high_motion"] > 0).sum()),
            }
        )
    with atomic(csv) as part:
        shown = [column for column in COLUMNS if column not in RARE or any(line[column] for line in lines)]
        pd.DataFrame(lines)[shown].to_csv(part, index=False, float_format="%.4f", lineterminator="\n")


def _missing_responses(checked: Path, subjects: Sequence[str] | dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = json.loads(checked.read_text()).get("missing_responses", {})
    if absent := sorted(set(subjects) - found.keys()):
        raise UserError(str(checked), f"missing_responses: found none for {', '.join(absent)}; delete it and run check_dataset again")
    return found
