"""Instruction tuning through the frozen LLM, with unsupervised domain adaptation (Stage II)."""


rule stage2:
    """Train the bridge on source captions; target subjects give unlabelled fMRI tokens only (equations 3 to 6)."""
    input:
        script=ancient("workflow_scripts/stage2.py"),
        trials=of_train_subjects(TRIALS),
        labels=of_train_subjects(LABELS),
        captions=shards("train", "captions.parquet"),
        tokens=lambda w: tokens_of(w.dataset, ENCODERS[w.variant], "train"),
        target_tokens=lambda w: tokens_of(w.dataset, ENCODERS[w.variant], "adapt"),
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        folder=directory(f"{R}/stage2/{{dataset}}/{{variant}}"),
    params:
        module=as_py_module(),
        code=code("stage2"),
        packages=packages("stage2"),
        settings=settings("stage2"),
        launch=LAUNCH,
        config=CONFIG,
        work=f"{R}/work/stage2/{{dataset}}/{{variant}}",
    log:
        f"{R}/logs/stage2/{{dataset}}_variant-{{variant}}.log",
    threads: CORES
    resources:
        mem_mb=memory(96000, 2500),
        runtime=minutes(1440, 60),
        nodes=NODES,
        tasks=tasks(PROCESSES, NODES),
        gpu=gpus(PROCESSES, NODES),
        gpu_model=gpu_model(PROCESSES, NODES),
        gres=gres(PROCESSES, NODES),
        slurm_extra=REQUESTS.leave(),
    conda:
        "../envs/models.yaml"
    message:
        "Stage II on {wildcards.dataset}, variant {wildcards.variant}"
    shell:
        "{params.launch} --nodes {resources.nodes} -- {params.module} --config {params.config:q} --dataset {wildcards.dataset} --variant {wildcards.variant}"
        " --trials {input.trials:q} --labels {input.labels:q} --captions {input.captions:q}"
        " --tokens {input.tokens:q} --target-tokens {input.target_tokens:q}"
        " --models {input.models:q} --work {params.work:q} --folder {output.folder:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
