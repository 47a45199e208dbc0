"""Text of every condition: the model, which reads only fMRI tokens and prompt, and each control (boldscribe/conditions.py)."""


use rule step as noise_series with:
    """Draw Gaussian windows with the mean and covariance of a subject's, one per trial, as a series for training and encoding."""
    input:
        script=ancient("workflow_scripts/noise_series.py"),
        series=of_subject(SERIES),
        voxels=of_subject(VOXELS),
        trials=TRIALS,
    output:
        noise=NOISE["series"],
        noise_voxels=NOISE["voxels"],
        noise_trials=NOISE["trials"],
    log:
        f"{R}/logs/noise_series/{{dataset}}_sub-{{subject}}.log",
    resources:
        mem_mb=memory(16000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Replace the BOLD of {wildcards.dataset} sub-{wildcards.subject} with noise"


use rule step as best_captions with:
    """Choose the source captions that score best against all others: for each instruction, and for each action and instruction."""
    input:
        script=ancient("workflow_scripts/best_captions.py"),
        captions=shards("train", "captions.parquet"),
        labels=of_train_subjects(LABELS),
    output:
        best=BEST_CAPTIONS,
    log:
        f"{R}/logs/best_captions/{{dataset}}.log",
    resources:
        mem_mb=memory(4000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/evaluation.yaml"
    message:
        "Choose the best captions of {wildcards.dataset}"


use rule step as captions_again with:
    """Caption a test shard again, sampled with another seed, to measure how well a caption predicts another of the same clip."""
    input:
        script=ancient("workflow_scripts/captions_again.py"),
        trials=of_validation_subjects(TRIALS),
        labels=of_validation_subjects(LABELS),
        descriptions=given_descriptions,
        clips=[f"{R}/stimuli/{{dataset}}/test-{{shard}}_{kind}.npy" for kind in CAPTIONED],
        models=models(*CAPTIONER),
    output:
        captions=f"{R}/stimuli/{{dataset}}/test-{{shard}}_captions_again.parquet",
    log:
        f"{R}/logs/captions_again/{{dataset}}_{{shard}}.log",
    threads: CAPTION_THREADS
    resources:
        **CAPTION_GPUS,
        mem_mb=CAPTION_MEMORY,
        runtime=minutes(240, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Caption the test clips of {wildcards.dataset} again, shard {wildcards.shard}"
    priority: -1


use rule step as decode with:
    """Decode the target subjects' test trials under one condition, which may only open the inputs that it declares."""
    input:
        script=ancient("workflow_scripts/decode.py"),
        trials=of_validation_subjects(TRIALS),
        tokens=handed("tokens", lambda w: tokens_of(w.dataset, CONDITIONS[w.condition].encoder, CONDITIONS[w.condition].data, "test")),
        adapt_tokens=handed("adapt_tokens", lambda w: tokens_of(w.dataset, "model", "fmri", "adapt")),
        train_tokens=handed("train_tokens", lambda w: tokens_of(w.dataset, "model", "fmri", "train")),
        stage2=handed("stage2", lambda w: f"{R}/stage2/{w.dataset}/{CONDITIONS[w.condition].bridge}"),
        models=handed("llm", lambda w: [f"{R}/models/llm", f"{R}/models/connectors"]),
        series=handed("series", of_validation_subjects(SERIES)),
        voxels=handed("series", of_validation_subjects(VOXELS)),
        source_series=handed("source_series", of_train_subjects(SERIES)),
        source_voxels=handed("source_series", of_train_subjects(VOXELS)),
        source_trials=handed("source_labels", of_train_subjects(TRIALS)),
        source_labels=handed("source_labels", of_train_subjects(LABELS)),
        source_captions=handed("source_captions", shards("train", "captions.parquet")),
        best_captions=handed("best_captions", lambda w: BEST_CAPTIONS.format(dataset=w.dataset)),
        source_features=handed("source_features", shards("train", "features.npy")),
        test_labels=handed("test_labels", of_validation_subjects(LABELS)),
        captions_again=handed("captions_again", shards("test", "captions_again.parquet")),
    output:
        decoded=f"{R}/decoded/{{dataset}}/condition-{{condition}}.parquet",
    log:
        f"{R}/logs/decode/{{dataset}}_condition-{{condition}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(64000, 2000),
        runtime=minutes(30, 30),
        llm=1,
    conda:
        "../envs/models.yaml"
    message:
        "Decode {wildcards.dataset}, condition {wildcards.condition}"
    priority: -1
    group:
        "decode_{dataset}"
