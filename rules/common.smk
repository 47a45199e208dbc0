"""Settings of the experiment, and resources of the rules."""

import json
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from boldscribe.conditions import CONDITIONS, DATA_OF, ENCODER_OF, needed
from boldscribe.config import check_experiment
from boldscribe.machinery import forkserver
from boldscribe.machinery.cluster.controller import look_around, take_over
from boldscribe.machinery.cluster.requests import Requests
from boldscribe.machinery.cluster.retries import spare_mistakes
from boldscribe.machinery.download.manifest import manifest_path
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import json_digest
from boldscribe.machinery.provenance.environment import packages_of
from boldscribe.machinery.provenance.fingerprint import current_fingerprint
from boldscribe.machinery.provenance.run_files import write_run
from boldscribe.machinery.runs import hooks
from boldscribe.machinery.runs.jobs import write_jobs
from boldscribe.machinery.steps.slices import slice_of
from boldscribe.preprocessing.containers import pinned_digest
from boldscribe.workflow import Config

if workflow.is_main_process:
    look_around(Path.cwd())

try:
    experiment = Config.parse(config, "config.yaml with --configfile and --config")
    check_experiment(experiment)
except UserError as error:
    raise WorkflowError(str(error))

R = experiment.paths.results
CONFIG = f"{R}/config.yaml"  # the merged configuration that every step reads; written when a run starts
DATASETS = experiment.whole_datasets
SHARDS = [f"{i:03d}" for i in range(experiment.stimuli.shards)]
EMBEDDED = experiment.video_llama.llm == "embedded"
# Unlike the small embedded models, the paper's need several cores to prepare a GPU's input, and its memory.
CORES = 1 if EMBEDDED else 8
REQUESTS = Requests(SITE, EMBEDDED)
memory, minutes = REQUESTS.memory, REQUESTS.minutes
on_gpus = REQUESTS.on_gpus
# Video-LLaMA captions from its features; another video-text model captions from frames, and is large whatever the LLM; given captions
# need neither clips nor models.
KIND = experiment.captioner.kind
CAPTIONER = {"video_llama": ["llm", "connectors"], "video_text": ["captioner"], "given": []}[KIND]
CAPTIONED = {"video_llama": ["features"], "video_text": ["frames"], "given": []}[KIND]
CAPTION_THREADS = {"video_llama": CORES, "video_text": 8, "given": 1}[KIND]
CAPTION_MEMORY = {"video_llama": memory(64000, 2000), "video_text": memory(64000, 64000), "given": memory(2000, 2000)}[KIND]
CAPTION_GPUS = {} if KIND == "given" else on_gpus(needed=KIND == "video_text")
FMRIPREP = experiment.preprocessing.runs_fmriprep
# Training takes one process, or several that share each batch: one per GPU, on one node or several.
PROCESSES, NODES = experiment.training.processes, experiment.training.nodes
FOR_TRAINING = REQUESTS.for_training(PROCESSES, NODES)
# Slurm sends SIGTERM to all processes of a job: the shell and `tee` must outlive the training, which saves its state first.
LAUNCH = f"trap '' TERM; python -m boldscribe.training.launch --processes {PROCESSES} --nodes {NODES} --"


wildcard_constraints:
    dataset="[A-Za-z0-9]+",
    subject="[A-Za-z0-9]+",
    split="train|test",
    shard="[0-9]{3}",
    role="train|adapt|test",
    condition="[a-z]+",
    references="|_descriptions",
    encoder="[a-z]+",
    bridge="[a-z]+",
    data="fmri|noise",
    asset="llm|visual_encoder|connectors|sc_mbm|captioner|sentence_encoder|bertscore_encoder",


def tell_missing(jobs):
    """Stop before anything runs or is queued if inputs of jobs are not on this machine, or too few for how they train; list all of it."""
    from boldscribe.fetching.missing import check_assets  # here, since no job process needs its tables and manifests
    from boldscribe.planning.feasibility import check_feasible

    try:
        if {"stage1", "stage2"} & {name for name, _ in jobs}:
            check_feasible(experiment)
        check_assets(experiment, jobs, f" --config {CONFIG}")
    except UserError as error:
        raise WorkflowError(str(error))


def start_on_site():
    """Prepare a run: ensure that it is the only controller and that jobs fit a partition, and disable retries after user errors."""
    on_slurm = workflow.executor_plugin.name == "slurm"
    try:
        take_over(Path.cwd(), on_slurm)
        spare_mistakes(workflow.rules, workflow.execution_settings.retries, Path(R))
        if on_slurm:
            from boldscribe.machinery.cluster.submissions import check_partitions, hear_of_cancelled_jobs

            check_partitions(workflow)
            hear_of_cancelled_jobs()
        elif workflow.executor_plugin.name == "local":
            forkserver.offer()
    except UserError as error:
        raise WorkflowError(str(error))
