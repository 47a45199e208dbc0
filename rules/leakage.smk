"""What the test trials share with training: no training step, so it may open all labels."""


rule leakage:
    """Count shared clips, source videos and captions; stop a strict run that shares any clip or source."""
    input:
        script=ancient("workflow_scripts/leakage.py"),
        trials=lambda w: [TRIALS.format(dataset=w.dataset, subject=s) for s in subjects(w.dataset)],
        labels=lambda w: [LABELS.format(dataset=w.dataset, subject=s) for s in subjects(w.dataset)],
        source_captions=shards("train", "captions.parquet"),
        test_captions=shards("test", "captions.parquet"),
    output:
        json=LEAKAGE,
        md=f"{R}/leakage/{{dataset}}.md",
    params:
        module=as_py_module(),
        code=code("leakage"),
        packages=packages("leakage"),
        settings=settings("leakage"),
        config=CONFIG,
    log:
        f"{R}/logs/leakage/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Look for leaks in {wildcards.dataset}"
    priority: -1
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --trials {input.trials:q} --labels {input.labels:q}"
        " --source-captions {input.source_captions:q} --test-captions {input.test_captions:q}"
        " --json {output.json:q} --md {output.md:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
