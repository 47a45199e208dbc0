"""What an experiment will take, before any of it runs: `boldscribe plan` (docs/planning.md)."""
