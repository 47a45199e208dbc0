"""Text of every condition: by the model, from fMRI tokens and prompt alone, and by each control (boldscribe/conditions.py)."""


rule decode:
    """Decode the target subjects' test trials under one condition, which may open what it reads and no more."""
    input:
        script=ancient("workflow_scripts/decode.py"),
        trials=of_validation_subjects(TRIALS),
        tokens=handed("tokens", lambda w: tokens_of(w.dataset, TOKENS[w.condition], "test")),
        adapt_tokens=handed("adapt_tokens", lambda w: tokens_of(w.dataset, "model", "adapt")),
        train_tokens=handed("train_tokens", lambda w: tokens_of(w.dataset, "model", "train")),
        stage2=handed("stage2", lambda w: f"{R}/stage2/{w.dataset}/{CONDITIONS[w.condition].variant}"),
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
    params:
        module=as_py_module(),
        code=code("decode"),
        packages=packages("decode"),
        settings=settings("decode"),
        config=CONFIG,
        files=lambda w, input: options(input),
    log:
        f"{R}/logs/decode/{{dataset}}_condition-{{condition}}.log",
    threads: CORES
    resources:
        mem_mb=memory(64000, 2000),
        runtime=minutes(30, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
        llm=1,
    conda:
        "../envs/models.yaml"
    message:
        "Decode {wildcards.dataset}, condition {wildcards.condition}"
    priority: -1
    group:
        "decode_{dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --condition {wildcards.condition}"
        " {params.files:q} --decoded {output.decoded:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
