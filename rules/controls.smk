"""What some conditions are decoded from and no model is: noise in place of BOLD, the best captions, and the captioner's second answers."""


rule noise_series:
    """Gaussian windows with the mean and covariance of a subject's, one per trial, as a series that training and encoding read alike."""
    input:
        script=ancient("workflow_scripts/noise_series.py"),
        series=of_subject(SERIES),
        voxels=of_subject(VOXELS),
        trials=TRIALS,
    output:
        noise=NOISE["series"],
        noise_voxels=NOISE["voxels"],
        noise_trials=NOISE["trials"],
    params:
        module=as_py_module(),
        code=code("noise_series"),
        packages=packages("noise_series"),
        settings=settings("noise_series"),
        config=CONFIG,
    log:
        f"{R}/logs/noise_series/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(16000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Draw noise in place of the BOLD of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q}"
        " --noise {output.noise:q} --noise-voxels {output.noise_voxels:q} --noise-trials {output.noise_trials:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule best_captions:
    """The source captions that score best against all others: for each instruction, and for each action and instruction."""
    input:
        script=ancient("workflow_scripts/best_captions.py"),
        captions=shards("train", "captions.parquet"),
        labels=of_train_subjects(LABELS),
    output:
        best=BEST_CAPTIONS,
    params:
        module=as_py_module(),
        code=code("best_captions"),
        packages=packages("best_captions"),
        settings=settings("best_captions"),
        config=CONFIG,
    log:
        f"{R}/logs/best_captions/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(4000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/evaluation.yaml"
    message:
        "Choose the best captions of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --captions {input.captions:q} --labels {input.labels:q}"
        " --best {output.best:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule captions_again:
    """The captioner's answers for a test shard under another seed, sampled: how well a caption foretells another of the same clip."""
    input:
        script=ancient("workflow_scripts/captions_again.py"),
        trials=of_validation_subjects(TRIALS),
        labels=of_validation_subjects(LABELS),
        clips=f"{R}/stimuli/{{dataset}}/test-{{shard}}_{'features' if OWN_CAPTIONS else 'frames'}.npy",
        models=expand(
            f"{R}/models/{{asset}}",
            asset=["llm", "connectors"] if OWN_CAPTIONS else ["captioner"],
        ),
    output:
        captions=f"{R}/stimuli/{{dataset}}/test-{{shard}}_captions_again.parquet",
    params:
        module=as_py_module(),
        code=code("captions_again"),
        packages=packages("captions_again"),
        settings=settings("captions_again" if OWN_CAPTIONS else "captions_again/video_text"),
        config=CONFIG,
    log:
        f"{R}/logs/captions_again/{{dataset}}_{{shard}}.log",
    threads: CORES if OWN_CAPTIONS else 8
    resources:
        mem_mb=memory(64000, 2000 if OWN_CAPTIONS else 64000),
        runtime=minutes(240, 60),
        gpu=gpus(needed=not OWN_CAPTIONS),
        gpu_model=gpu_model(needed=not OWN_CAPTIONS),
        gres=gres(needed=not OWN_CAPTIONS),
    conda:
        "../envs/models.yaml"
    message:
        "Caption the test clips of {wildcards.dataset} again, shard {wildcards.shard}"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --shard {wildcards.shard}"
        " --trials {input.trials:q} --labels {input.labels:q} --clips {input.clips:q}"
        " --models {input.models:q} --captions {output.captions:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
