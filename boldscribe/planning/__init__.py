"""Resource estimates of an experiment before it runs: `boldscribe plan` (docs/planning.md)."""
