"""Where each stage finds its files."""


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


def of_role(pattern):
    """One file per subject whose trials have a role: source subjects for `train`, target subjects for `adapt` and `test`."""
    return lambda w: (of_train_subjects if w.role == "train" else of_validation_subjects)(pattern)(w)


def of_pretraining_subjects(pattern):
    """One file per subject whom only pretraining reads."""
    return [pattern.format(dataset=d, subject=s) for d, extra in experiment.pretraining.items() for s in extra.subjects]


SERIES = f"{R}/bold/{{dataset}}/sub-{{subject}}_bold.npy"
VOXELS = f"{R}/bold/{{dataset}}/sub-{{subject}}_voxels.npy"
DISPLACEMENT = f"{R}/bold/{{dataset}}/sub-{{subject}}_framewise_displacement.npy"
TRIALS = f"{R}/trials/{{dataset}}/sub-{{subject}}_trials.parquet"
LABELS = f"{R}/trials/{{dataset}}/sub-{{subject}}_labels.parquet"
EXCLUDED = f"{R}/trials/{{dataset}}/sub-{{subject}}_excluded.parquet"


PRETRAINING_SERIES = f"{R}/pretraining/{{dataset}}/sub-{{subject}}_bold.npy"
PRETRAINING_VOXELS = f"{R}/pretraining/{{dataset}}/sub-{{subject}}_voxels.npy"


def dataset_manifest(wildcards):
    """The list of a measured data set's files, by which it is fetched; none for data that the user brings."""
    manifest = experiment.datasets[wildcards.dataset].manifest
    return manifest_path(manifest) if manifest else []


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
    return made + (manifest if experiment.preprocessing.engine in ("derivatives", "minimal") else [])


def ready_transforms(wildcards):
    """A subject's ready transforms, which the engine 'minimal' resamples through."""
    if experiment.preprocessing.engine != "minimal":
        return []
    return f"{experiment.datasets[wildcards.dataset].derivatives_dir}/sub-{wildcards.subject}"


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
