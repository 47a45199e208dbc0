"""The experiment's settings, and what each rule asks of the machine."""

import json
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from boldscribe import forkserver
from boldscribe.cluster.controller import look_around, take_over
from boldscribe.cluster.requests import Requests
from boldscribe.cluster.retries import spare_mistakes
from boldscribe.conditions import CONDITIONS, ENCODERS, NOISY, TOKENS, needed
from boldscribe.config import check_experiment, parse_config
from boldscribe.errors import UserError
from boldscribe.fetching.manifest import manifest_path
from boldscribe.files import json_digest
from boldscribe.operations import hooks
from boldscribe.preprocessing.containers import pinned_digest
from boldscribe.provenance.environment import packages_of
from boldscribe.provenance.fingerprint import current_fingerprint
from boldscribe.provenance.run import write_run
from boldscribe.provenance.slices import declared_slice

if workflow.is_main_process:
    look_around(Path.cwd())

try:
    experiment = parse_config(config, "config.yaml with --configfile and --config")
    check_experiment(experiment)
except UserError as error:
    raise WorkflowError(str(error))

R = experiment.paths.results
CONFIG = f"{R}/config.yaml"  # the merged configuration that every step reads; written when a run starts
DATASETS = experiment.whole_datasets
SHARDS = [f"{i:03d}" for i in range(experiment.stimuli.shards)]
EMBEDDED = experiment.video_llama.llm == "embedded"
# Beside the embedded default's small models, the paper's want several cores for a GPU's input, and its memory.
CORES = 1 if EMBEDDED else 8
REQUESTS = Requests(SITE, EMBEDDED)
memory, minutes, tasks = REQUESTS.memory, REQUESTS.minutes, REQUESTS.tasks
gpus, gpu_model, gres = REQUESTS.gpus, REQUESTS.gpu_model, REQUESTS.gres
# Captions by Video-LLaMA, from its features; or by another video-text model, from frames, which is large whatever the LLM.
OWN_CAPTIONS = experiment.captioner.kind == "video_llama"
# fMRIPrep preprocesses, in its container or installed.
FMRIPREP = experiment.preprocessing.engine in ("apptainer", "docker", "bare")
# One process trains, or several that share each batch, one per GPU, on one node or several.
PROCESSES, NODES = experiment.training.processes, experiment.training.nodes
# Slurm sends SIGTERM to all processes of a job: the shell and `tee` must outlive the training, which saves its state first.
LAUNCH = f"trap '' TERM; python -m boldscribe.training.launch --processes {PROCESSES}"


wildcard_constraints:
    dataset="[A-Za-z0-9]+",
    subject="[A-Za-z0-9]+",
    split="train|test",
    shard="[0-9]{3}",
    role="train|adapt|test",
    condition="[a-z]+",
    variant="[a-z]+",
    asset="llm|visual_encoder|connectors|sc_mbm|captioner|sentence_encoder|bertscore_encoder",


def tell_missing(jobs):
    """Stop before anything is run or queued if jobs read what is not on this machine; all of it is named at once."""
    from boldscribe.fetching.missing import check_assets  # reads tables and manifests: not for each job's process

    try:
        check_assets(experiment, jobs, f" --config {CONFIG}")
    except UserError as error:
        raise WorkflowError(str(error))


def settings(step):
    """The settings that a step reads (rules/settings.yaml); a change of one of them reruns the steps that read it, and no others."""

    def values(wildcards):
        return settings_of(step.format(**dict(wildcards.items())), wildcards.get("dataset"))

    return values


@cache
def settings_of(step, dataset):
    """Settings of a step's jobs on a data set, as JSON: worked out once, not for each job."""
    return json.dumps(declared_slice(experiment, step, dataset), sort_keys=True)


def code(program):
    """Fingerprint of the code that a program can reach: a changed function reruns the steps that use it, a changed comment none."""
    return current_fingerprint(program).sha256


def container_digest(wildcards):
    """Digest of fMRIPrep's image: another one reruns what it made. None is empty here; the check of fMRIPrep says what is missing."""
    try:
        return pinned_digest(experiment) if FMRIPREP else ""
    except UserError:
        return ""


def packages(program):
    """Digest of the versions of all packages that a program uses."""
    return json_digest(packages_of(program))


def start_on_site():
    """Before the first job of a run: one controller at a time, jobs that fit a partition, no second try after a user's mistake."""
    on_slurm = workflow.executor_plugin.name == "slurm"
    try:
        take_over(Path.cwd(), on_slurm)
        spare_mistakes(workflow.rules, workflow.execution_settings.retries, Path(R))
        if on_slurm:
            from boldscribe.cluster.submissions import check_partitions, hear_of_cancelled_jobs

            check_partitions(workflow)
            hear_of_cancelled_jobs()
        elif workflow.executor_plugin.name == "local":
            forkserver.offer()
    except UserError as error:
        raise WorkflowError(str(error))
