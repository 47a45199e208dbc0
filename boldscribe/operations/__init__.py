"""Monitoring of a run while it goes and when it has ended: `boldscribe status`, causes of failures, time left (docs/operations.md)."""
