"""Frames, frozen features and pseudo-captions of stimulus videos."""
