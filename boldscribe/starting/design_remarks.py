"""Remarks on the design of an experiment, and on images that cannot be registered: what works, but should be known before it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.config.data_settings import Bold, Dataset
from boldscribe.data.event_checks import Events
from boldscribe.data.images import load_image
from boldscribe.machinery.errors import UserError

FEW_TRIALS = 20  # test trials of a subject; fewer tell little
BLOCKED = 0.6  # share of neighbouring trials with the same action from which a design is called blocked
SMALLEST_EXTENT, LARGEST_VOXEL = 40.0, 6.0  # mm; beyond these, registration to the template has too little to go by


def design_remarks(design: Dataset, events: Events, bold: Bold, repetition_time: float | None) -> list[str]:
    """Return remarks on trials that follow each other closely, blocks, repeated and shared clips, and few test trials.

    Args:
        design: the proposed section of the data set.
        events: of all runs, as stored (`read_all_events`).
        bold: the proposed window.
        repetition_time: of most runs (s); None if unknown.
    """
    tables = {subject: {run: one.table for run, one in runs.items() if len(one.table)} for subject, runs in events.items()}
    runs = [table for of_subject in tables.values() for table in of_subject.values()]
    if not runs:
        return []
    remarks = [*_spacing(runs, bold, repetition_time), *_blocks(runs), *_repeats(design, tables), *_shared(design, tables)]
    few = {
        s: n
        for s in design.targets
        if (n := sum(len(t) for r, t in tables.get(s, {}).items() if design.choice.names(design.test_runs, r))) < FEW_TRIALS
    }
    if few:
        subject, n = next(iter(few.items()))
        remarks.append(
            f"test trials: {n} of sub-{subject}{_more(few)}; fewer than {FEW_TRIALS} show a large effect only: test more runs, or rotate "
            "the subjects (leave_out)"
        )
    return remarks


def _spacing(runs: Sequence[pd.DataFrame], bold: Bold, repetition_time: float | None) -> list[str]:
    gaps = np.concatenate([np.diff(table["onset"]) for table in runs])
    if repetition_time is None or not len(gaps) or bold.signal != "window":
        return []
    gap, window = float(np.median(gaps)), bold.n_volumes * repetition_time
    if gap >= window:
        return []
    return [
        f"trials back to back: one every {gap:.3g} s (median), shorter than the window of {window:g} s, which then contains the response "
        "to the next clip too; `bold: {signal: lss, n_volumes: 1}` separates them"
    ]


def _blocks(runs: Sequence[pd.DataFrame]) -> list[str]:
    kinds = [table["trial_type"].to_numpy() for table in runs if "trial_type" in table]
    pairs = sum(len(kind) - 1 for kind in kinds)
    if not pairs or len({k for kind in kinds for k in kind}) < 2:
        return []
    same = sum(int((kind[1:] == kind[:-1]).sum()) for kind in kinds) / pairs
    if same < BLOCKED:
        return []
    return [
        f"block design: {same:.0%} of the trials follow one of the same action. Trials of a block are not exchangeable, as permutation "
        "tests take them to be: slow drifts alone can tell blocks apart. Compare with the control 'shuffled within class', and trust no p "
        "of a single run"
    ]


def _repeats(design: Dataset, tables: dict[str, dict[str, pd.DataFrame]]) -> list[str]:
    column = design.stimulus_column
    shown = [Counter(clip for table in runs.values() for clip in table[column]) for runs in tables.values() if runs]
    times = [n for of_subject in shown for n in of_subject.values()]
    if max(times) < 2:
        return []
    return [
        f"repeated stimuli: a clip is shown {min(times)} to {max(times)} times to a subject (mean {np.mean(times):.2g}). Each time is a "
        "trial of its own; `repeats: average` makes one trial of them. Clips, not trials, are held out for early stopping"
    ]


def _shared(design: Dataset, tables: dict[str, dict[str, pd.DataFrame]]) -> list[str]:
    column = design.stimulus_column
    trained = {clip for s in design.train_subjects for table in tables.get(s, {}).values() for clip in table[column]}
    tested = {
        clip
        for s in design.targets
        for run, table in tables.get(s, {}).items()
        if design.choice.names(design.test_runs, run)
        for clip in table[column]
    }
    if design.split == "strict" or not tested & trained:
        return []
    return [
        f"shared stimuli: {len(tested & trained)} of {len(tested)} test clips are also shown to source subjects, so that a trained caption "
        "can be the right one; `split: strict` with a strict_test_share, such as 0.2, keeps them apart"
    ]


def registration_remarks(images: Sequence[Path]) -> list[str]:
    """Return a remark on images that cannot be registered to a template reliably: a slice or a slab, or very large voxels.

    Args:
        images: raw T1w and BOLD images; those that cannot be opened are left to the check of the data.
    """
    found = {}
    for path in images:
        try:
            image = load_image(path, 3 if "_T1w." in path.name else 4)
        except (UserError, OSError):
            continue
        zooms = np.asarray(image.header.get_zooms()[:3], float)
        extent = float((zooms * image.shape[:3]).min())
        if extent < SMALLEST_EXTENT:
            found[path] = f"{extent:g} mm thick ({' x '.join(map(str, image.shape[:3]))} voxels)"
        elif zooms.max() > LARGEST_VOXEL:
            found[path] = f"voxels of {zooms.max():g} mm"
    if not found:
        return []
    path, what = next(iter(found.items()))
    return [
        f"registration: {path} is {what}{_more(found)}; a template cannot be aligned with it reliably. Look at the registration figures, "
        "or pass existing derivatives (--derivatives)"
    ]


def _more(found: dict[str, int] | dict[Path, str]) -> str:
    return f", and {len(found) - 1} more" if len(found) > 1 else ""
