"""A run while it goes, and when it has ended: `boldscribe status`, why jobs failed, how long it will take (docs/operations.md)."""
