"""Where jobs run: the site's settings, and the experiment that is meant where none is given."""

import gc
import os

from snakemake.exceptions import WorkflowError

from boldscribe.cluster.site import SITE as SITE_FILE
from boldscribe.cluster.site import load_site
from boldscribe.errors import UserError
from boldscribe.processes import prepare_environment

gc.set_threshold(50_000)  # a plan is many objects and no garbage: looking for it took a tenth of its time
prepare_environment()
try:
    SITE = load_site()
except UserError as error:
    raise WorkflowError(str(error))

# Files over config.yaml: those of --configfile, or else those that the site names.
EXPERIMENT = list(workflow.config_settings.configfiles) or [f"{workflow.basedir}/{file}" for file in SITE.experiment]
if not workflow.config_settings.configfiles:
    for file in EXPERIMENT:

        configfile: file


# A job that is queued again adds to its log.
os.environ.setdefault("SBATCH_OPEN_MODE", "append")
if SITE.partitions:
    os.environ.setdefault("SNAKEMAKE_SLURM_PARTITIONS", str(SITE_FILE))
