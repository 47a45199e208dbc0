"""The experiment's settings, and where each stage finds its files."""

import json

from snakemake.exceptions import WorkflowError

from boldscribe.config import check_experiment, parse_config
from boldscribe.errors import UserError
from boldscribe.files import json_digest
from boldscribe.provenance.environment import packages_of
from boldscribe.provenance.fingerprint import current_fingerprint
from boldscribe.provenance.run import write_run
from boldscribe.provenance.slices import declared_slice

try:
    experiment = parse_config(config, "config.yaml with --configfile and --config")
    check_experiment(experiment)
except UserError as error:
    raise WorkflowError(str(error))

R = experiment.paths.results
CONFIG = f"{R}/config.yaml"  # the merged configuration that every step reads; written when a run starts
DATASETS = list(experiment.datasets)
SHARDS = [f"{i:03d}" for i in range(experiment.stimuli.shards)]
CONDITIONS = experiment.decoding.conditions
EMBEDDED = experiment.video_llama.llm == "embedded"
# Beside the embedded default's small models, the paper's want a GPU and several cores for its input.
GPU, CORES = (0, 1) if EMBEDDED else (1, 8)


wildcard_constraints:
    dataset="[A-Za-z0-9]+",
    subject="[A-Za-z0-9]+",
    split="train|test",
    shard="[0-9]{3}",
    condition="[a-z]+",
    asset="llm|visual_encoder|connectors|sentence_encoder|bertscore_encoder",


def settings(step):
    """The settings that a step reads (rules/settings.yaml); a change of one of them reruns the steps that read it, and no others."""

    def values(wildcards):
        dataset = getattr(wildcards, "dataset", None)
        return json.dumps(declared_slice(experiment, step.format(**dict(wildcards.items())), dataset), sort_keys=True)

    return values


def code(program):
    """Fingerprint of the code that a program can reach: a changed function reruns the steps that use it, a changed comment none."""
    return lambda wildcards: current_fingerprint(program).sha256


def packages(program):
    """Digest of the versions of all packages that a program uses."""
    return lambda wildcards: json_digest(packages_of(program))


def memory(full, embedded):
    """Memory (MB) of a rule: at full scale, and for the embedded default; more with each attempt."""
    return lambda wildcards, attempt: (embedded if EMBEDDED else full) * attempt


def minutes(full):
    """Longest run time (min), more with each attempt."""
    return lambda wildcards, attempt: full * attempt


def subjects(dataset):
    """All subjects of a data set, source subjects first."""
    return [
        *experiment.datasets[dataset].train_subjects,
        *experiment.datasets[dataset].validation_subjects,
    ]


def of_train_subjects(pattern):
    """One file per source subject."""
    return lambda w: [pattern.format(dataset=w.dataset, subject=s) for s in experiment.datasets[w.dataset].train_subjects]


def of_validation_subjects(pattern):
    """One file per target subject."""
    return lambda w: [pattern.format(dataset=w.dataset, subject=s) for s in experiment.datasets[w.dataset].validation_subjects]


def of_split(pattern):
    """One file per subject of a split: source subjects for `train`, target subjects for `test`."""
    return lambda w: (of_train_subjects if w.split == "train" else of_validation_subjects)(pattern)(w)


SERIES = f"{R}/bold/{{dataset}}/sub-{{subject}}_bold.npy"
VOXELS = f"{R}/bold/{{dataset}}/sub-{{subject}}_voxels.npy"
DISPLACEMENT = f"{R}/bold/{{dataset}}/sub-{{subject}}_framewise_displacement.npy"
TRIALS = f"{R}/trials/{{dataset}}/sub-{{subject}}_trials.parquet"
LABELS = f"{R}/trials/{{dataset}}/sub-{{subject}}_labels.parquet"


def raw_subject(wildcards):
    """A subject's raw data: the simulated folder, or the manifest of the measured data set."""
    if experiment.datasets[wildcards.dataset].simulated:
        return f"{R}/raw/{wildcards.dataset}/sub-{wildcards.subject}"
    return f"{R}/fetched/{wildcards.dataset}.json"


def raw_stimuli(wildcards):
    """The clips: the simulated folder, or the manifest of the measured data set."""
    if experiment.datasets[wildcards.dataset].simulated:
        return f"{R}/raw/{wildcards.dataset}/stimuli"
    return f"{R}/fetched/{wildcards.dataset}.json"


def raw_dataset(wildcards):
    """All that a data set's check reads: subjects and clips, and the manifest of what this run has not made."""
    dataset = experiment.datasets[wildcards.dataset]
    manifest = [f"{R}/fetched/{wildcards.dataset}.json"]
    if not dataset.simulated:
        return manifest
    folder = f"{R}/raw/{wildcards.dataset}"
    made = [f"{folder}/dataset_description.json", f"{folder}/stimuli", *(f"{folder}/sub-{s}" for s in subjects(wildcards.dataset))]
    return made + (manifest if experiment.preprocessing.engine == "derivatives" else [])


def derivatives(wildcards):
    """Derivatives of a subject: made by the next rule, or ready ones."""
    dataset = experiment.datasets[wildcards.dataset]
    if experiment.preprocessing.engine == "derivatives":
        return f"{dataset.derivatives_dir}/sub-{wildcards.subject}"
    return f"{R}/derivatives/{wildcards.dataset}/sub-{wildcards.subject}"


def shards(split, kind):
    """All files of one kind of a split's shards."""
    return lambda w: [f"{R}/stimuli/{w.dataset}/{split}-{shard}_{kind}" for shard in SHARDS]


def scores_of(dataset):
    """Scores of a data set's target subjects under all conditions."""
    return expand(
        f"{R}/scores/{dataset}/sub-{{subject}}_condition-{{condition}}.parquet",
        subject=experiment.datasets[dataset].validation_subjects,
        condition=CONDITIONS,
    )
