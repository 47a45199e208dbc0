"""Thin programs, one per rule: parse the command line, call one library function, record the outputs.

A program imports that function only when it runs, so that help and command-line errors appear at once.
"""

import gc
import sys

from boldscribe.machinery.forkserver import hand_over

if sys.argv[0] == "-m":  # the case while `python -m workflow_scripts.X` locates X
    hand_over(sys.orig_argv[sys.orig_argv.index("-m") + 1], sys.argv[1:])

from boldscribe.machinery.provenance.deployment import explain_absence  # after `hand_over`, since this import takes longer

gc.set_threshold(50_000)  # imports create many objects but no garbage: collection took a second of each step that uses torch
sys.excepthook = explain_absence  # report a missing package with a remedy
