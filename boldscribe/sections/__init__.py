"""The sections of the configuration, in the order of the pipeline: every key with its meaning, unit and source.

The defaults are the paper's experiment. Sources: "paper x.y" is a section of Zheng & Sun 2024; "survey 8" is the table of
well-founded defaults for what the paper omits, with the package each value comes from; "ours" is our own choice.
"""
