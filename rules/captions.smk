"""Pseudo-captions: Video-LLaMA's answer to each record's instruction."""


rule captions:
    """Caption the clips of a shard, one answer per record and its instruction."""
    input:
        script=ancient("workflow_scripts/captions.py"),
        trials=of_split(TRIALS),
        labels=of_split(LABELS),
        features=rules.video_features.output.features,
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        captions=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_captions.parquet",
    params:
        module=as_py_module(),
        code=code("captions"),
        packages=packages("captions"),
        settings=settings("captions"),
        config=CONFIG,
    log:
        f"{R}/logs/captions/{{dataset}}_{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/captions/{{dataset}}_{{split}}-{{shard}}.tsv"
    threads: CORES
    resources:
        mem_mb=memory(64000, 2000),
        runtime=minutes(240),
        gpu=GPU,
    conda:
        "../envs/models.yaml"
    message:
        "Caption the clips of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --trials {input.trials:q} --labels {input.labels:q} --features {input.features:q}"
        " --models {input.models:q} --captions {output.captions:q} 2>&1 | tee {log:q}"
