"""Settings of the site where jobs run, and its default experiment."""

import gc
import os

from snakemake.exceptions import WorkflowError

from boldscribe.machinery.cluster.site import SITE as SITE_FILE
from boldscribe.machinery.cluster.site import load_site
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.processes import prepare_environment

gc.set_threshold(50_000)  # planning creates many objects but no garbage: collection took a tenth of its time
prepare_environment()
try:
    SITE = load_site()
except UserError as error:
    raise WorkflowError(str(error))

# Files that override config.yaml: those of --configfile, or else those that the site names.
EXPERIMENT = list(workflow.config_settings.configfiles) or [f"{workflow.basedir}/{file}" for file in SITE.experiment]
if not workflow.config_settings.configfiles:
    for file in EXPERIMENT:

        configfile: file


# A requeued job appends to its log.
os.environ.setdefault("SBATCH_OPEN_MODE", "append")
if SITE.partitions:
    os.environ.setdefault("SNAKEMAKE_SLURM_PARTITIONS", str(SITE_FILE))
