"""Times of a run's volumes and slices, from its JSON sidecar and header: the sidecar holds, and what is assumed is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boldscribe.config.data_settings import Dataset, PretrainingSet
from boldscribe.data.images import load_image, repetition_time
from boldscribe.data.layout import metadata, name_parts, run_files
from boldscribe.machinery.errors import UserError

TR_RANGE = (0.2, 10.0)
AXES = ("i", "j", "k", "i-", "j-", "k-")
# entities that only derivatives have, or that differ within one acquisition
NOT_OF_THE_RUN = {"sub", "echo", "part", "space", "res", "den", "cohort", "desc"}


def number(sidecar: Mapping[str, Any], key: str, path: Path) -> float | None:
    """Return a number of a sidecar; None if it is absent or null.

    Args:
        sidecar: from `metadata`.
        key: its name.
        path: image of the sidecar, for the error message.

    Raises:
        UserError: not a finite number.
    """
    value = sidecar.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(str(path), f"{key}: found {value!r} in its JSON sidecar, expected a number; correct it")
    return float(value)


def run_repetition_time(bold: Path, root: str | Path) -> tuple[float, str]:
    """Return the TR of a run (s), and a note if header and sidecar disagree: the sidecar's value holds.

    Args:
        bold: image.
        root: of its data set.

    Raises:
        UserError: neither states a plausible TR, or the sidecar's is implausible.
    """
    stated, header = number(metadata(bold, root), "RepetitionTime", bold), repetition_time(load_image(bold, 4))
    low, high = TR_RANGE
    if stated is None and low <= header <= high:
        return header, f"no RepetitionTime in the JSON sidecar; {header:g} s of the image's header is used"
    if stated is None or not low <= stated <= high:
        raise UserError(str(bold), f"RepetitionTime: found {stated!r} in its JSON sidecar, expected {low} to {high} s; correct it")
    if math.isclose(header, stated, abs_tol=0.01):
        return stated, ""
    return stated, f"pixdim[4] of the image's header is {header:g} s; RepetitionTime of the JSON sidecar, {stated:g} s, is used"


def slice_times(sidecar: Mapping[str, Any], path: Path) -> list[float]:
    """Return `SliceTiming` (s) as stored; empty if the sidecar has none.

    Args:
        sidecar: from `metadata`.
        path: image of the sidecar, for the error message.

    Raises:
        UserError: not a list of times between 0 and the TR.
    """
    times = sidecar.get("SliceTiming")
    if times is None:
        return []
    if not isinstance(times, list) or not all(type(t) in (int, float) and math.isfinite(t) for t in times):
        raise UserError(str(path), f"SliceTiming: found {str(times)[:80]} in its JSON sidecar, expected a list of seconds; correct it")
    longest = number(sidecar, "RepetitionTime", path) or TR_RANGE[1]
    if times and not 0 <= min(times) <= max(times) <= longest:
        raise UserError(
            str(path), f"SliceTiming: found {min(times):g} to {max(times):g} in its JSON sidecar, expected 0 to {longest:g} s; correct it"
        )
    return [float(t) for t in times]


def readout_time(sidecar: Mapping[str, Any], path: Path, shape: Sequence[int]) -> tuple[int, float] | str:
    """Return a run's phase-encoding axis and its total readout time (s), negative if it runs against the axis; or what is not stated.

    BIDS' total readout time spans the first to the last echo: one spacing less than the lines.

    Args:
        sidecar: from `metadata`.
        path: image of the sidecar, for the error message.
        shape: of the image.

    Raises:
        UserError: an entry that is no number.
    """
    seconds, spacing = (number(sidecar, key, path) for key in ("TotalReadoutTime", "EffectiveEchoSpacing"))
    direction = sidecar.get("PhaseEncodingDirection")
    if direction not in AXES:
        return "PhaseEncodingDirection"
    axis = "ijk".index(direction[0])
    if seconds is None and spacing is not None:
        seconds = spacing * (shape[axis] - 1)
    if seconds is None:
        return "TotalReadoutTime or EffectiveEchoSpacing"
    return axis, -seconds if direction.endswith("-") else seconds


def times_along_axis(sidecar: Mapping[str, Any], path: Path) -> tuple[list[float], int]:
    """Return the slice times (s) in the order of the array, and the axis of the slices.

    Raises:
        UserError: see `slice_times`; or a `SliceEncodingDirection` that is no axis.
    """
    direction = sidecar.get("SliceEncodingDirection")
    direction = "k" if direction is None else direction
    if direction not in AXES:
        raise UserError(
            str(path), f"SliceEncodingDirection: found {direction!r} in its JSON sidecar, expected one of {', '.join(AXES)}; correct it"
        )
    times = slice_times(sidecar, path)
    return times[::-1] if direction.endswith("-") else times, "ijk".index(direction[0])


def start_time(bold: Path, root: Path, design: Dataset | PretrainingSet, subject: str) -> tuple[float, str]:
    """Return the time from the start of a volume's acquisition to the time of its values (s), and a note if it is assumed.

    It is `StartTime` in the sidecar. fMRIPrep before 21.0 omits it and corrects to the middle of the slice times, which are then read
    from the raw sidecars if the derivative states that it is corrected. HAD's shipped derivatives do not state this; they were made
    with fMRIPrep's default, which corrects.

    Args:
        bold: preprocessed run.
        root: derivatives folder.
        design: section of the data set.
        subject: label.

    Raises:
        UserError: an entry of a sidecar that has another type.
    """
    sidecar = metadata(bold, root)
    if (stated := number(sidecar, "StartTime", bold)) is not None:
        return stated, ""
    corrected = sidecar.get("SliceTimingCorrected")
    if corrected is not None and not isinstance(corrected, bool):
        raise UserError(str(bold), f"SliceTimingCorrected: found {corrected!r} in its JSON sidecar, expected true or false; correct it")
    if corrected is None and isinstance(design, Dataset) and design.adapter == "had":
        corrected = True
    if corrected is False:
        return 0.0, ""
    if corrected is None:
        return 0.0, "the JSON sidecar has neither StartTime nor SliceTimingCorrected; volumes are taken at the start of their acquisition"
    raw = raw_run(bold, design, subject) if isinstance(design, Dataset) else None
    times = slice_times(metadata(raw, design.bids_dir), raw) if raw and isinstance(design, Dataset) else []
    if times:
        return (min(times) + max(times)) / 2, ""
    return 0.0, (
        "slice timing was corrected, but the JSON sidecar has no StartTime and the raw data no SliceTiming; volumes are taken at the start "
        "of their acquisition, which may be half a TR too early"
    )


def raw_run(bold: Path, design: Dataset, subject: str) -> Path:
    """Return the raw image that a preprocessed run was made from, or its expected path if the raw folder does not have it.

    Of several echoes or parts it is the first. Sidecars apply by name, so that they are found without the image.
    """
    own = {k: v for k, v in name_parts(bold).items() if k not in NOT_OF_THE_RUN}
    own.setdefault("run", "01")

    def of_run(path: Path) -> bool:
        found = {"run": "01"} | name_parts(path)
        return all(found.get(k) == v for k, v in own.items())

    files = run_files(design.bids_dir, subject, design.choice, "bold", [".nii", ".nii.gz", ".json"])
    files += run_files(design.bids_dir, subject, design.choice, "events", [".tsv"])
    if matching := [path for path in files if of_run(path)]:
        best = min(matching, key=lambda path: (len(name_parts(path)), path.name))
        return best.with_name(f"{best.name.rsplit('_', 1)[0]}_bold.nii.gz")
    label = design.choice.parts(design.choice.label(name_parts(bold))).get("ses")
    session = [f"ses-{label}"] if label else []
    kept = [part for part in bold.name.split(".")[0].split("_") if "-" in part and part.split("-")[0] not in NOT_OF_THE_RUN | {"ses"}]
    folder = Path(design.bids_dir).joinpath(f"sub-{subject}", *session, "func")
    return folder / "_".join([f"sub-{subject}", *session, *kept, "bold.nii.gz"])
