"""The noise ceiling of a data set, from clips that were seen more than once."""


rule reliability:
    """How well responses to the same clip agree, within a subject and across subjects; or that no clip repeats."""
    input:
        script=ancient("workflow_scripts/reliability.py"),
        series=of_subjects(SERIES),
        voxels=of_subjects(VOXELS),
        trials=of_subjects(TRIALS),
        labels=of_subjects(LABELS),
    output:
        reliability=RELIABILITY,
    params:
        module=as_py_module(),
        code=code("reliability"),
        packages=packages("reliability"),
        settings=settings("reliability"),
        config=CONFIG,
    log:
        f"{R}/logs/reliability/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(16000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Compare the responses of {wildcards.dataset} to the same clips"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --series {input.series:q}"
        " --voxels {input.voxels:q} --trials {input.trials:q} --labels {input.labels:q}"
        " --reliability {output.reliability:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
