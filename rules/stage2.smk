"""Instruction tuning through the frozen LLM, with unsupervised domain adaptation (Stage II)."""


rule stage2:
    """Train the bridge on source captions; target subjects give unlabelled fMRI only (equations 3 to 6)."""
    input:
        script=ancient("workflow_scripts/stage2.py"),
        series=of_train_subjects(SERIES),
        voxels=of_train_subjects(VOXELS),
        trials=of_train_subjects(TRIALS),
        labels=of_train_subjects(LABELS),
        captions=shards("train", "captions.parquet"),
        target_series=of_validation_subjects(SERIES),
        target_voxels=of_validation_subjects(VOXELS),
        target_trials=of_validation_subjects(TRIALS),
        stage1=rules.stage1.output.folder,
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        folder=directory(f"{R}/stage2/{{dataset}}"),
    params:
        module=as_py_module(),
        code=code("stage2"),
        packages=packages("stage2"),
        settings=settings("stage2"),
        config=CONFIG,
        work=f"{R}/work/stage2/{{dataset}}",
    log:
        f"{R}/logs/stage2/{{dataset}}.log",
    benchmark:
        f"{R}/benchmarks/stage2/{{dataset}}.tsv"
    threads: CORES
    resources:
        mem_mb=memory(96000, 2500),
        runtime=minutes(1440),
        gpu=GPU,
    conda:
        "../envs/models.yaml"
    message:
        "Stage II on {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q} --labels {input.labels:q} --captions {input.captions:q}"
        " --target-series {input.target_series:q} --target-voxels {input.target_voxels:q} --target-trials {input.target_trials:q}"
        " --models {input.models:q} --stage1 {input.stage1:q} --work {params.work:q} --folder {output.folder:q} 2>&1 | tee {log:q}"
