"""Text of every condition: the model's, and that of all controls (docs/controls.md)."""
