"""Reasons to exclude a trial, as written to `sub-XX_excluded.parquet`."""

OUTSIDE = "window leaves the run"
BROKEN = "clip cannot be decoded"
UNANSWERED = "no response"
OTHER_SIDE = "video source is kept for the other side of the split"
UNDESCRIBED = "no description of the clip"
AVERAGED = "averaged with an earlier trial of the same clip"

# of the row in the events
NO_ONSET = "no onset within the run"
NO_DURATION = "no valid duration"
NO_STIMULUS = "no valid stimulus"
NO_CLASS = "no class"
UNUSABLE = (NO_ONSET, NO_DURATION, NO_STIMULUS, NO_CLASS)
