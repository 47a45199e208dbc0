"""Peculiarities of HAD (OpenNeuro ds004488), taken from its versions 1.0.0 to 1.1.1 and third-party notes on 2.0.1.

Its onsets, clip names and shipped derivatives would each silently spoil results (docs/real-data.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from boldscribe.machinery.errors import UserError

# A blank of this length precedes the first clip of each run. Up to version 1.1.1 onsets count from its end, in later ones from its start.
LEAD_IN = 12.0
LATEST_FIRST_ONSET = 4.0  # s: one stimulus onset asynchrony
CLIP = re.compile(r"(?:^|/)v_(?P<action>.+)_id_(?P<source>.{11})_start_(?P<start>[0-9.]+)_label_[0-9]+\.mp4$")
RUNS_PER_CYCLE = 3


@dataclass(frozen=True)
class Clip:
    """Contents of a clip's name.

    Attributes:
        action: its class, with spaces.
        source: YouTube id of the video that it was cut from.
        start: start of the clip in that video (s).
    """

    action: str
    source: str
    start: float


def parse_clip(name: str, where: Path) -> Clip:
    """Parse class, source and start from a clip's name, `Class name/v_Class name_id_YOUTUBEID01_start_28.0_label_1.mp4`.

    Args:
        name: as in the events; later versions replace the spaces of the class by underscores.
        where: events file, for error messages.

    Raises:
        UserError: the name does not follow this pattern.
    """
    if (found := CLIP.search(name)) is None:
        raise UserError(
            str(where),
            f"stim_file: found {name!r}, expected a name like 'Archery/v_Archery_id_-Pi3uPQ3mzE_start_54.0_label_1.mp4'; correct it, or "
            "set adapter: bids",
        )
    return Clip(found["action"].replace("_", " "), found["source"], float(found["start"]))


def detect_lead_in(first_onsets: Mapping[str, float]) -> float:
    """Detect, rather than assume, whether a version's onsets exclude the 12 s blank before the first clip.

    Args:
        first_onsets: first onset of each run (s), by events file.

    Returns:
        12 if the onsets count from the end of the blank (first ones near 0), 0 if they count from the first volume.

    Raises:
        UserError: a first onset that fits neither, or runs that differ.
    """
    lead_ins: dict[float, str] = {}
    for file, onset in first_onsets.items():
        if 0 <= onset < LATEST_FIRST_ONSET:
            lead_ins.setdefault(LEAD_IN, file)
        elif LEAD_IN <= onset < LEAD_IN + LATEST_FIRST_ONSET:
            lead_ins.setdefault(0.0, file)
        else:
            raise UserError(
                file,
                f"onset: found {onset:g} s for the first clip, expected 0 to {LATEST_FIRST_ONSET:g} s (from the end of HAD's lead-in) "
                f"or {LEAD_IN:g} to {LEAD_IN + LATEST_FIRST_ONSET:g} s (from the first volume); set lead_in to the seconds from the first "
                "volume to the zero point of the onsets",
            )
    if len(lead_ins) > 1:
        raise UserError(
            lead_ins[LEAD_IN],
            f"onset: found a first onset near 0, but one after the {LEAD_IN:g} s lead-in in {lead_ins[0.0]}; expected one convention "
            "throughout the data set; fetch all files of one version",
        )
    return next(iter(lead_ins))


def cycle_remarks(actions: Mapping[str, Sequence[str]]) -> list[str]:
    """Report deviations from the design: three consecutive runs show each class once (checked in all 120 cycles of 1.1.1).

    Args:
        actions: actions of each of a subject's runs, in run order.
    """
    runs = list(actions)
    remarks = []
    for cycle in (runs[i : i + RUNS_PER_CYCLE] for i in range(0, len(runs), RUNS_PER_CYCLE)):
        shown = [action for run in cycle for action in actions[run]]
        if len(cycle) == RUNS_PER_CYCLE and len(set(shown)) < len(shown):
            twice = sorted({action for action in shown if shown.count(action) > 1})
            remarks.append(f"runs {', '.join(cycle)} show {', '.join(twice[:3])} more than once, though each class has one clip per cycle")
    return remarks


def flat_runs(root: Path, subject: str, task: str) -> dict[str, Path]:
    """Find HAD's shipped preprocessed runs, `sub-XX/sub-XX_task-action_run-N_desc-preproc_bold.nii.gz`, by two-digit run label.

    The names have neither session nor space, and run numbers are not padded; the space must be inferred from the grid.
    """
    pattern = re.compile(rf"sub-{subject}_task-{task}_run-(?P<run>[0-9]+)_desc-preproc_bold\.nii(\.gz)?$")
    found = {match["run"]: path for path in (root / f"sub-{subject}").glob("*_bold.nii*") if (match := pattern.fullmatch(path.name))}
    return {f"{int(run):02d}": path for run, path in sorted(found.items(), key=lambda item: int(item[0]))}
