"""The experiment's settings, and where each stage finds its files."""

import json

from snakemake.exceptions import WorkflowError

from boldscribe.config import check_experiment, parse_config
from boldscribe.config_files import write_config
from boldscribe.errors import UserError

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
ALIGNED = ("bold", "stimuli", "tokenizer", "sc_mbm", "adaptor", "stage1")  # sections that shape the aligned fMRI encoder
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


def settings(*sections):
    """The slice of the configuration that a rule reads; a change reruns the rules that read it, and no others."""
    values = experiment.model_dump(mode="json", by_alias=True)
    text = json.dumps({name: values[name] for name in ("seed", *sections)}, sort_keys=True)
    return lambda wildcards: text  # a function, since the braces of a plain string would be taken for wildcards


def dataset_settings(*names):
    """The same for keys of the rule's data set."""

    def slice_of(wildcards):
        values = experiment.datasets[wildcards.dataset].model_dump(mode="json")
        return json.dumps({name: values[name] for name in names}, sort_keys=True)

    return slice_of


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
TRIALS = f"{R}/trials/{{dataset}}/sub-{{subject}}_trials.parquet"
LABELS = f"{R}/trials/{{dataset}}/sub-{{subject}}_labels.parquet"


MODEL_SETTINGS = {
    "llm": experiment.video_llama.llm,
    "visual_encoder": experiment.video_llama.visual_encoder,
    "connectors": experiment.video_llama.connectors,
    "sentence_encoder": experiment.evaluation.sentence_encoder,
    "bertscore_encoder": f"{experiment.evaluation.bertscore_model}, layer {experiment.evaluation.bertscore_layer}",
}


def raw_subject(wildcards):
    """What must be there before a subject can be read: its simulated folder, or the fetched data set."""
    if experiment.datasets[wildcards.dataset].simulated:
        return f"{R}/raw/{wildcards.dataset}/sub-{wildcards.subject}"
    return f"{R}/fetched/{wildcards.dataset}.json"


def raw_dataset(wildcards):
    """The same for all subjects of a data set, and its stimuli."""
    if experiment.datasets[wildcards.dataset].simulated:
        folder = f"{R}/raw/{wildcards.dataset}"
        return [
            f"{folder}/stimuli",
            *(f"{folder}/sub-{s}" for s in subjects(wildcards.dataset)),
        ]
    return [f"{R}/fetched/{wildcards.dataset}.json"]


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
