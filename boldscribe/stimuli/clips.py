"""Detection of clips that cannot be decoded, before anything is computed, so that the frames step meets none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.processes import in_processes
from boldscribe.stimuli.frames import check_frames


def missing_clips(folder: Path, clips: Sequence[str]) -> list[str]:
    """List clips without a file: an error in the events or the folder, for which no trial is excluded."""
    return [clip for clip in clips if not (folder / clip).is_file()]


def broken_clips(folder: Path, clips: Sequence[str], workers: int) -> dict[str, str]:
    """Find clips that are incomplete or cannot be decoded from the first frame to the last, with the reason.

    Every clip is decoded in full, regardless of how many frames the experiment samples.

    Args:
        folder: of the clips.
        clips: their names; `missing_clips` handles those without a file.
        workers: processes that share the clips.

    Returns:
        name → reason in words, in the order of `clips`.
    """
    paths = [folder / clip for clip in dict.fromkeys(clips) if (folder / clip).is_file()]
    reasons = in_processes(_reason, paths, workers, "videos")
    return {path.relative_to(folder).as_posix(): reason for path, reason in zip(paths, reasons, strict=True) if reason}


def _reason(path: Path) -> str | None:
    """Return the reason why a clip is broken; None if it is not."""
    try:
        check_frames(path)
    except UserError as error:
        return "; ".join(error.problems)
    except OSError as error:  # such as missing read permission
        return f"cannot be read ({error.strerror or error})"
    return None
