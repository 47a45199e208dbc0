"""BIDS data sets: names and reading (`layout`), and the preflight (`checks`)."""

from boldscribe.bids.checks import raw_manifest, validate_raw
from boldscribe.bids.layout import (
    entities,
    entity_path,
    find_preprocessed,
    find_runs,
    find_t1w,
    metadata,
    read_events,
    resolution_label,
    run_label,
    subjects,
)

__all__ = [
    "entities",
    "entity_path",
    "find_preprocessed",
    "find_runs",
    "find_t1w",
    "metadata",
    "raw_manifest",
    "read_events",
    "resolution_label",
    "run_label",
    "subjects",
    "validate_raw",
]
