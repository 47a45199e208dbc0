"""Boldscribe: in words, what a person watched, from fMRI alone."""

__version__ = "0.1.0"
