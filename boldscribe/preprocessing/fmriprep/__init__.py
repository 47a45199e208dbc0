"""fMRIPrep through apptainer, docker (with its `fmriprep-docker` wrapper) or a local installation, with the same arguments.

`options` builds fMRIPrep's own arguments, `command` wraps them for an engine, `preflight` detects problems before a run, and `run`
runs a subject and moves fMRIPrep's outputs into place (docs/preprocessing.md).
"""

from boldscribe.preprocessing.fmriprep.options import Allotment
from boldscribe.preprocessing.fmriprep.preflight import check, examine
from boldscribe.preprocessing.fmriprep.run import run_fmriprep

__all__ = ["Allotment", "check", "examine", "run_fmriprep"]
