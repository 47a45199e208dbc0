"""Scores, controls, statistics and tables."""
