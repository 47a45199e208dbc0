"""Phase-difference maps of BOLD runs, and checks that their sidecars suffice to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldscribe.data.layout import metadata
from boldscribe.data.timing import number

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")


@dataclass(frozen=True)
class PhaseDifference:
    """A phase-difference map, with the parameters to correct a run by it.

    Attributes:
        phase, magnitude: images; the magnitude is the first echo's.
        echo_times: s.
        units: of the phase, if the sidecar states them.
        direction: `PhaseEncodingDirection` of the run.
        spacing: effective echo spacing of the run (s); None if the sidecar has only the readout time.
        readout_time: total readout time of the run (s).
    """

    phase: Path
    magnitude: Path
    echo_times: tuple[float, float]
    units: str | None
    direction: str
    spacing: float | None
    readout_time: float | None

    def readout(self, shape: Sequence[int]) -> tuple[int, float]:
        """Return axis and seconds of `susceptibility.Readout` for a run of this shape.

        BIDS' total readout time spans the first to the last echo: one spacing less than the readout of all lines.
        """
        axis = "ijk".index(self.direction[0])
        lines = int(shape[axis])
        spacing = self.spacing or (self.readout_time or 0) / (lines - 1)
        return axis, spacing * lines * (-1 if self.direction.endswith("-") else 1)


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _matches(bold: Path, sidecar: Mapping[str, Any], about: Mapping[str, Any], subject_folder: Path) -> bool:
    """Return whether a map applies to a run: by `B0FieldSource`, else by `IntendedFor`, else because it is of the same session."""
    if sources := _as_list(sidecar.get("B0FieldSource")):
        return bool(set(sources) & set(_as_list(about.get("B0FieldIdentifier"))))
    if intended := _as_list(about.get("IntendedFor")):
        within = bold.relative_to(subject_folder).as_posix()
        return any(name == f"bids::{subject_folder.name}/{within}" or name == within for name in intended)
    return True


def field_map_of(bold: Path, raw: Path, sidecar: Mapping[str, Any]) -> PhaseDifference | str:
    """Find the phase-difference map of a run: by `B0FieldSource`, `IntendedFor`, or the same session; the first by name.

    Args:
        bold: raw BOLD image.
        raw: root of the data set.
        sidecar: of the image.

    Returns:
        the map, or the reason why the run cannot be corrected.

    Raises:
        UserError: an entry of a sidecar that is no number.
    """
    session = bold.parent.parent
    subject_folder = session.parent if session.name.startswith("ses-") else session
    maps = [p for p in sorted((session / "fmap").glob("*_phasediff.nii*")) if _matches(bold, sidecar, metadata(p, raw), subject_folder)]
    if not maps:
        return "no phase-difference map for this run"
    phase = maps[0]
    about = metadata(phase, raw)
    magnitude = phase.with_name(phase.name.replace("_phasediff.", "_magnitude1."))
    if not magnitude.exists():
        return f"no {magnitude.name} next to the phase-difference map"
    first, second = (number(about, key, phase) for key in ("EchoTime1", "EchoTime2"))
    if not first or not second or first == second:
        return f"no EchoTime1 and EchoTime2 in the sidecar of {phase.name}"
    direction = sidecar.get("PhaseEncodingDirection")
    spacing, time = (number(sidecar, key, bold) for key in ("EffectiveEchoSpacing", "TotalReadoutTime"))
    if direction not in DIRECTIONS:
        return "no PhaseEncodingDirection in the sidecar"
    if not spacing and not time:
        return "neither EffectiveEchoSpacing nor TotalReadoutTime in the sidecar"
    return PhaseDifference(phase, magnitude, (first, second), about.get("Units"), direction, spacing, time)
