"""BIDS data sets: file names and reading (`layout`), and the preflight (`checks`)."""

from boldscribe.bids.checks import raw_manifest, validate_raw
from boldscribe.bids.events import lead_in_of, read_events, stimulus_events
from boldscribe.bids.layout import (
    entities,
    entity_path,
    find_preprocessed,
    find_runs,
    find_t1w,
    metadata,
    resolution_label,
    run_label,
)

__all__ = [
    "entities",
    "entity_path",
    "find_preprocessed",
    "find_runs",
    "find_t1w",
    "lead_in_of",
    "metadata",
    "raw_manifest",
    "read_events",
    "resolution_label",
    "run_label",
    "stimulus_events",
    "validate_raw",
]
