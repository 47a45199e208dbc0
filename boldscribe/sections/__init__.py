"""Sections of the configuration in pipeline order: every key with its meaning, unit and source.

The defaults are the paper's experiment. Sources: "paper x.y" is a section of Zheng & Sun 2024; "ours" is our own
choice; all others are sections of docs/survey.md.
"""
