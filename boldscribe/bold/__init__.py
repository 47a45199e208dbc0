"""Cleaned series and trial windows from preprocessed BOLD."""
