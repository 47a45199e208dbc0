"""fMRIPrep by apptainer, by docker (through its `fmriprep-docker` wrapper) or installed: the same arguments for each of them.

`options` are fMRIPrep's own arguments, `command` wraps them for an engine, `preflight` finds beforehand what would stop a run, `run`
runs a subject and puts what fMRIPrep wrote into place (docs/preprocessing.md).
"""

from boldscribe.preprocessing.fmriprep.options import Allotment
from boldscribe.preprocessing.fmriprep.preflight import check, examine
from boldscribe.preprocessing.fmriprep.run import run_fmriprep

ENGINES = ("apptainer", "docker", "bare")

__all__ = ["ENGINES", "Allotment", "check", "examine", "run_fmriprep"]
