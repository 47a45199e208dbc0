"""Preprocessed BOLD to cleaned series and trial windows."""


rule bold_series:
    """Mask, denoise and z-score a subject's runs into one float16 memory map."""
    input:
        script=ancient("workflow_scripts/bold_series.py"),
        derivatives=derivatives,
        raw=raw_subject if experiment.bold.signal == "lss" else [],
        checked=rules.check_dataset.output.report,
    output:
        series=SERIES,
        voxels=VOXELS,
        displacement=DISPLACEMENT,
    params:
        module=as_py_module(),
        code=code("bold_series"),
        packages=packages("bold_series"),
        settings=settings("bold_series"),
        config=CONFIG,
    log:
        f"{R}/logs/bold_series/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(16000, 1000, of_input=2),
        runtime=minutes(120, 30, of_input=30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Clean the BOLD series of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --derivatives {input.derivatives:q} --raw {input.raw:q} --checked {input.checked:q} --series {output.series:q}"
        " --voxels {output.voxels:q} --displacement {output.displacement:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule pretraining_series:
    """Mask, denoise and z-score the runs of a subject whom only pretraining reads."""
    input:
        script=ancient("workflow_scripts/pretraining_series.py"),
        derivatives=lambda w: f"{experiment.pretraining[w.dataset].derivatives_dir}/sub-{w.subject}",
        manifest=rules.fetch_pretraining.output.marker,
        checked=rules.check_pretraining.output.grid,
    output:
        series=PRETRAINING_SERIES,
        voxels=PRETRAINING_VOXELS,
        displacement=f"{R}/pretraining/{{dataset}}/sub-{{subject}}_framewise_displacement.npy",
    params:
        module=as_py_module(),
        code=code("pretraining_series"),
        packages=packages("pretraining_series"),
        settings=settings("pretraining_series"),
        config=CONFIG,
    log:
        f"{R}/logs/pretraining_series/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(16000, 1000, of_input=2),
        runtime=minutes(120, 30, of_input=30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Clean the BOLD series of {wildcards.dataset} sub-{wildcards.subject}, for pretraining"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --derivatives {input.derivatives:q} --manifest {input.manifest:q} --checked {input.checked:q} --series {output.series:q} --voxels {output.voxels:q}"
        " --displacement {output.displacement:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule trials:
    """Index a subject's trials; labels apart, so that training on target subjects cannot see them."""
    input:
        script=ancient("workflow_scripts/trials.py"),
        raw=raw_subject,
        series=of_subject(SERIES),
        displacement=of_subject(DISPLACEMENT),
        checked=checked,
    output:
        trials=TRIALS,
        labels=LABELS,
        excluded=EXCLUDED,
    params:
        module=as_py_module(),
        code=code("trials"),
        packages=packages("trials"),
        settings=settings("trials"),
        config=CONFIG,
    log:
        f"{R}/logs/trials/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Index the trials of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --raw {input.raw:q} --series {input.series:q} --displacement {input.displacement:q} --checked {input.checked:q}"
        " --trials {output.trials:q} --labels {output.labels:q} --excluded {output.excluded:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
