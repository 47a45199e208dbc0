"""One thin program per rule: read the command line, call one library function, record what was made.

A program imports that function when it runs: its help, and what is wrong with its command line, are told at once.
"""

import gc
import sys

from boldscribe.forkserver import hand_over

if sys.argv[0] == "-m":  # so it is while `python -m workflow_scripts.X` looks for X
    hand_over(sys.orig_argv[sys.orig_argv.index("-m") + 1], sys.argv[1:])

from boldscribe.provenance.deployment import explain_absence  # takes longer than to hand over

gc.set_threshold(50_000)  # imports make many objects and no garbage: looking for it took a second of each step that uses torch
sys.excepthook = explain_absence  # a package that is not installed shows as a message that says what to do
