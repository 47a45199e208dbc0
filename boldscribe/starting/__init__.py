"""From a BIDS folder and videos to a configuration, and a list of what is missing: `boldscribe init` (docs/starting.md)."""
