"""Decoded texts of all conditions: the model and all controls (docs/controls.md)."""
