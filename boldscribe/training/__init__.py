"""Pretraining, Stage I and Stage II, resumable."""
