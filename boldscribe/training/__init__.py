"""Resumable pretraining, Stage I and Stage II."""
