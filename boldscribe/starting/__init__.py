"""Configuration from a BIDS folder and videos, with a list of what is missing: `boldscribe init` (docs/starting.md)."""
