"""Which clips cannot be decoded: found before anything is computed, so that the frames step meets none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boldscribe.errors import UserError
from boldscribe.processes import in_processes
from boldscribe.stimuli.frames import check_frames


def missing_clips(folder: Path, clips: Sequence[str]) -> list[str]:
    """Clips that have no file: a mistake of the events or of the folder, which no trial is left out for."""
    return [clip for clip in clips if not (folder / clip).is_file()]


def broken_clips(folder: Path, clips: Sequence[str], workers: int) -> dict[str, str]:
    """Clips that are not whole, or cannot be decoded from the first frame to the last, and why.

    Every clip is decoded in full, whatever number of frames the experiment takes from it.

    Args:
        folder: of the clips.
        clips: their names; those without a file are left to `missing_clips`.
        workers: processes that share the clips.

    Returns:
        name → reason in words, in the order of `clips`.
    """
    paths = [folder / clip for clip in dict.fromkeys(clips) if (folder / clip).is_file()]
    reasons = in_processes(_reason, paths, workers, "videos")
    return {path.relative_to(folder).as_posix(): reason for path, reason in zip(paths, reasons, strict=True) if reason}


def _reason(path: Path) -> str | None:
    """Why a clip is broken; None if it is not."""
    try:
        check_frames(path)
    except UserError as error:
        return "; ".join(error.problems)
    except OSError as error:  # such as a file that may not be read
        return f"cannot be read ({error.strerror or error})"
    return None
