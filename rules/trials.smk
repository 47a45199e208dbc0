"""Preprocessed BOLD to cleaned series and trial windows."""


rule bold_series:
    """Mask, denoise and z-score a subject's runs into one float16 memory map."""
    input:
        script="workflow_scripts/bold_series.py",
        derivatives=derivatives,
        checked=rules.check_dataset.output.report,
    output:
        series=SERIES,
        voxels=SERIES.replace("_bold.npy", "_voxels.npy"),
        displacement=SERIES.replace("_bold.npy", "_framewise_displacement.npy"),
    params:
        module=as_py_module(),
        config=CONFIG,
        settings=settings("bold", "preprocessing"),
        dataset=dataset_settings("task", "session"),
    log:
        f"{R}/logs/bold_series/{{dataset}}_sub-{{subject}}.log",
    benchmark:
        f"{R}/benchmarks/bold_series/{{dataset}}_sub-{{subject}}.tsv"
    threads: 1
    resources:
        mem_mb=memory(16000, 1000),
        runtime=minutes(120),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Clean the BOLD series of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --derivatives {input.derivatives:q} --series {output.series:q} --voxels {output.voxels:q}"
        " --displacement {output.displacement:q} 2>&1 | tee {log:q}"


rule trials:
    """Index a subject's trials; labels apart, so that training on target subjects cannot see them."""
    input:
        raw_subject,
        script="workflow_scripts/trials.py",
        series=SERIES,
    output:
        trials=TRIALS,
        labels=LABELS,
    params:
        module=as_py_module(),
        config=CONFIG,
        settings=settings("bold"),
        instructions=lambda w: experiment.video_llama.instructions,
        dataset=dataset_settings(
            "bids_dir",
            "task",
            "session",
            "train_subjects",
            "validation_subjects",
            "adaptation_runs",
            "test_runs",
        ),
    log:
        f"{R}/logs/trials/{{dataset}}_sub-{{subject}}.log",
    benchmark:
        f"{R}/benchmarks/trials/{{dataset}}_sub-{{subject}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Index the trials of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --series {input.series:q} --trials {output.trials:q} --labels {output.labels:q} 2>&1 | tee {log:q}"
