"""What the frozen encoder tells before any text is written, and what the scans that it reads are like."""

INFORMATION = f"{R}/maps/{{dataset}}_information.nii.gz"
QUALITY = f"{R}/quality/{{dataset}}.csv"
RETRIEVAL = f"{R}/retrieval/{{dataset}}.csv"


rule retrieval:
    """Which test clips the fMRI tokens of target subjects belong to, by the similarity of Stage I: the model's, and its controls'."""
    input:
        script=ancient("workflow_scripts/retrieval.py"),
        tokens=lambda w: [tokens_of(w.dataset, *made) for made in needed(experiment.conditions(w.dataset)).tokens if made[1] == "test"],
        labels=of_validation_subjects(LABELS),
        features=shards("test", "features.npy"),
        models=expand(f"{R}/models/{{asset}}", asset=["connectors"]),
    output:
        csv=report(
            RETRIEVAL,
            caption="../report/retrieval.rst",
            category="Retrieval",
            labels={"data set": "{dataset}"},
        ),
    params:
        module=as_py_module(),
        code=code("retrieval"),
        packages=packages("retrieval"),
        settings=settings("retrieval"),
        config=CONFIG,
    log:
        f"{R}/logs/retrieval/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(32000, 1500),
        runtime=minutes(60, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/models.yaml"
    message:
        "Retrieve the test clips of {wildcards.dataset}"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --tokens {input.tokens:q} --labels {input.labels:q}"
        " --features {input.features:q} --models {input.models:q} --csv {output.csv:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule information_map:
    """Where in the brain what is decoded is: what each voxel adds to the match of a test trial with its own clip."""
    input:
        script=ancient("workflow_scripts/information_map.py"),
        series=of_validation_subjects(SERIES),
        voxels=of_validation_subjects(VOXELS),
        trials=of_validation_subjects(TRIALS),
        labels=of_validation_subjects(LABELS),
        features=shards("test", "features.npy"),
        stage1=f"{R}/stage1/{{dataset}}/model",
        models=expand(f"{R}/models/{{asset}}", asset=["connectors"]),
    output:
        map=INFORMATION,
        about=f"{R}/maps/{{dataset}}_information.json",
    params:
        module=as_py_module(),
        code=code("information_map"),
        packages=packages("information_map"),
        settings=settings("information_map"),
        config=CONFIG,
    log:
        f"{R}/logs/information_map/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(32000, 2000),
        runtime=minutes(240, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/models.yaml"
    message:
        "Map the information about the clips in the brains of {wildcards.dataset}"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --series {input.series:q} --voxels {input.voxels:q}"
        " --trials {input.trials:q} --labels {input.labels:q} --features {input.features:q} --stage1 {input.stage1:q} --models {input.models:q}"
        " --map {output.map:q} --about {output.about:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule quality:
    """What the data of each subject are like: runs, voxels, trials kept and left out, missing responses, motion."""
    input:
        script=ancient("workflow_scripts/quality.py"),
        series=of_subjects(SERIES),
        displacement=of_subjects(DISPLACEMENT),
        trials=of_subjects(TRIALS),
        excluded=of_subjects(EXCLUDED),
        checked=checked,
    output:
        csv=report(
            QUALITY,
            caption="../report/quality.rst",
            category="Data quality",
            labels={"data set": "{dataset}"},
        ),
    params:
        module=as_py_module(),
        code=code("quality"),
        packages=packages("quality"),
        settings=settings("quality"),
        config=CONFIG,
    log:
        f"{R}/logs/quality/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Look at the quality of {wildcards.dataset}"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --series {input.series:q}"
        " --displacement {input.displacement:q} --trials {input.trials:q} --excluded {input.excluded:q} --checked {input.checked:q}"
        " --csv {output.csv:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
