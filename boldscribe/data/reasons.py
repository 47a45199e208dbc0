"""Reasons to exclude a trial, as written to `sub-XX_excluded.parquet`."""

OUTSIDE = "window leaves the run"
BROKEN = "clip cannot be decoded"
UNANSWERED = "no response"
OTHER_SIDE = "video source is kept for the other side of the split"
UNDESCRIBED = "no description of the clip"
