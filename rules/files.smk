"""Paths of the files of each stage."""


def models(*assets):
    """Folders of models."""
    return [f"{R}/models/{asset}" for asset in assets]


def subjects(dataset):
    """All subjects of a data set, source subjects first."""
    return experiment.datasets[dataset].subjects


def of_train_subjects(pattern):
    """One file per source subject; `pattern` may depend on the wildcards."""
    return lambda w: _each(pattern, w, experiment.datasets[w.dataset].train_subjects)


def of_validation_subjects(pattern):
    """One file per target subject; `pattern` may depend on the wildcards."""
    return lambda w: _each(pattern, w, experiment.datasets[w.dataset].validation_subjects)


def _each(pattern, wildcards, labels):
    chosen = pattern(wildcards) if callable(pattern) else pattern
    return [place(chosen, wildcards.dataset, s) for s in labels]


def of_subjects(pattern):
    """One file per subject, source subjects first."""
    return lambda w: _each(pattern, w, subjects(w.dataset))


def of_split(pattern):
    """One file per subject of a split: source subjects for `train`, target subjects for `test`."""
    return lambda w: (of_train_subjects if w.split == "train" else of_validation_subjects)(pattern)(w)


def of_role(pattern):
    """One file per subject whose trials have a role: source subjects for `train`, target subjects for `adapt` and `test`."""
    return lambda w: (of_train_subjects if w.role == "train" else of_validation_subjects)(pattern)(w)


def of_data(name):
    """A subject's series, voxels or trials: measured, or noise instead (by `data`, or by the data that `encoder` is trained on)."""
    return lambda w: {"fmri": MEASURED, "noise": NOISE}[w.get("data") or DATA_OF[w.encoder]][name]


def of_pretraining_subjects(pattern):
    """One file per pretraining-only subject."""
    return [pattern.format(dataset=d, subject=s) for d, extra in experiment.pretraining.items() for s in extra.subjects]


SERIES = f"{R}/bold/{{dataset}}/sub-{{subject}}_bold.npy"
VOXELS = f"{R}/bold/{{dataset}}/sub-{{subject}}_voxels.npy"
DISPLACEMENT = f"{R}/bold/{{dataset}}/sub-{{subject}}_framewise_displacement.npy"
TRIALS = f"{R}/trials/{{dataset}}/sub-{{subject}}_trials.parquet"
LABELS = f"{R}/trials/{{dataset}}/sub-{{subject}}_labels.parquet"
EXCLUDED = f"{R}/trials/{{dataset}}/sub-{{subject}}_excluded.parquet"
SCORES = f"{R}/scores/{{dataset}}{{references}}.parquet"
PAIRS = f"{R}/scores/{{dataset}}{{references}}_pairs.parquet"
BEST_CAPTIONS = f"{R}/stimuli/{{dataset}}/best_captions.parquet"
LEAKAGE = f"{R}/leakage/{{dataset}}.json"
RELIABILITY = f"{R}/reliability/{{dataset}}.csv"
INFORMATION = f"{R}/maps/{{dataset}}_information.nii.gz"
QUALITY = f"{R}/quality/{{dataset}}.csv"
RETRIEVAL = f"{R}/retrieval/{{dataset}}.csv"
MEASURED = {"series": SERIES, "voxels": VOXELS, "trials": TRIALS}
NOISE = {
    "series": f"{R}/noise/{{dataset}}/sub-{{subject}}_bold.npy",
    "voxels": f"{R}/noise/{{dataset}}/sub-{{subject}}_voxels.npy",
    "trials": f"{R}/noise/{{dataset}}/sub-{{subject}}_trials.parquet",
}
PRETRAINING_SERIES = f"{R}/pretraining/{{dataset}}/sub-{{subject}}_bold.npy"
PRETRAINING_VOXELS = f"{R}/pretraining/{{dataset}}/sub-{{subject}}_voxels.npy"


def dataset_manifest(wildcards):
    """The manifest by which a measured data set is fetched; none for data that the user provides."""
    manifest = experiment.datasets[wildcards.dataset].manifest
    return manifest_path(manifest) if manifest else []


def raw_subject(wildcards):
    """A subject's raw data: the simulated folder, or the manifest of the measured data set."""
    return _raw(wildcards, f"sub-{wildcards.get('subject')}")


def raw_stimuli(wildcards):
    """The clips: the simulated folder, or the manifest of the measured data set."""
    return _raw(wildcards, "stimuli")


def _raw(wildcards, folder):
    whole = experiment.whole(wildcards.dataset)
    return f"{R}/raw/{whole}/{folder}" if experiment.datasets[whole].simulated else f"{R}/fetched/{whole}.json"


def raw_dataset(wildcards):
    """All inputs of a data set's check: subjects and clips, and the manifest of files that this run does not make."""
    dataset = experiment.datasets[wildcards.dataset]
    manifest = [f"{R}/fetched/{wildcards.dataset}.json"]
    if not dataset.simulated:
        return manifest
    folder = f"{R}/raw/{wildcards.dataset}"
    made = [f"{folder}/dataset_description.json", f"{folder}/stimuli", *(f"{folder}/sub-{s}" for s in subjects(wildcards.dataset))]
    return made + (manifest if experiment.preprocessing.reads_derivatives else [])


def ready_transforms(wildcards):
    """A subject's ready transforms, through which the engine 'minimal' resamples."""
    return ready_derivatives(wildcards) if experiment.preprocessing.engine == "minimal" else []


def derivatives(wildcards):
    """Derivatives of a subject: made by the rule fmriprep, or ready ones."""
    if experiment.preprocessing.engine == "derivatives":
        return ready_derivatives(wildcards)
    return f"{R}/derivatives/{wildcards.dataset}/sub-{wildcards.subject}"


def ready_derivatives(wildcards):
    """A subject's ready derivatives: their folder, or the manifest of the data set that they are fetched with."""
    dataset = experiment.datasets[wildcards.dataset]
    if dataset.fetches(dataset.derivatives_dir):
        return f"{R}/fetched/{wildcards.dataset}.json"
    return f"{dataset.derivatives_dir}/sub-{wildcards.subject}"


def shards(split, kind):
    """All files of one kind of a split's shards."""
    return lambda w: [f"{R}/stimuli/{w.dataset}/{split}-{shard}_{kind}" for shard in SHARDS]


def tokens_of(dataset, encoder, data, role):
    """Tokens that an encoder makes of a role's trials, from their fMRI or from noise."""
    return f"{R}/fmri_tokens/{dataset}/encoder-{encoder}_data-{data}_role-{role}_tokens.npy"


def tokens_for_bridge(role):
    """Tokens of a role's trials on which the job's bridge is trained."""
    return lambda w: tokens_of(w.dataset, ENCODER_OF[w.bridge], DATA_OF[ENCODER_OF[w.bridge]], role)


def handed(name, files):
    """Files that a condition may open: `files` (a function of the wildcards) if it reads `name`, else none (boldscribe/conditions.py)."""
    return lambda w: files(w) if name in CONDITIONS[w.condition].reads else []
