"""Raw BIDS to BIDS-Derivatives."""


rule check_dataset:
    """Read every header, event file and stimulus name before hours of compute are spent."""
    input:
        script=ancient("workflow_scripts/check_dataset.py"),
        raw=raw_dataset,
    output:
        report=f"{R}/checked/{{dataset}}.json",
    params:
        module=as_py_module(),
        code=code("check_dataset"),
        packages=packages("check_dataset"),
        settings=settings("check_dataset"),
        config=CONFIG,
    log:
        f"{R}/logs/check_dataset/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(8000, 2000),
        runtime=minutes(120, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Check the raw data of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --threads {threads}"
        " --raw {input.raw:q} --report {output.report:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule check_preprocessing:
    """Look for all that would stop fMRIPrep, where Snakemake runs: before its jobs wait in a queue."""
    input:
        script=ancient("workflow_scripts/check_preprocessing.py"),
    output:
        report=f"{R}/checked/{{dataset}}_preprocessing.json",
    params:
        module=as_py_module(),
        code=code("check_preprocessing"),
        packages=packages("check_preprocessing"),
        settings=settings("check_preprocessing"),
        config=CONFIG,
        container=container_digest,
    log:
        f"{R}/logs/check_preprocessing/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(10, 10),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Check that fMRIPrep can run on {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --report {output.report:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule fmriprep:
    """Motion correction, coregistration, normalisation and confounds of one subject (preprocessing.engine)."""
    input:
        script=ancient("workflow_scripts/fmriprep.py"),
        raw=raw_subject,
        transforms=ready_transforms,
        checked=rules.check_dataset.output.report,
        preflight=rules.check_preprocessing.output.report if FMRIPREP else [],
    output:
        subject=directory(f"{R}/derivatives/{{dataset}}/sub-{{subject}}"),
    params:
        module=as_py_module(),
        code=code("fmriprep"),
        packages=packages("fmriprep"),
        settings=settings("fmriprep"),
        config=CONFIG,
        container=container_digest,
        work=f"{R}/work/fmriprep/{{dataset}}_sub-{{subject}}",
    log:
        f"{R}/logs/fmriprep/{{dataset}}_sub-{{subject}}.log",
    threads: 8 if FMRIPREP else 1
    resources:
        mem_mb=memory(24000, 24000 if FMRIPREP else 3000),
        runtime=minutes(720, 720 if FMRIPREP else 60),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Preprocess {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --threads {threads} --memory-mb {resources.mem_mb} --raw {input.raw:q} --transforms {input.transforms:q}"
        " --checked {input.checked:q} --preflight {input.preflight:q} --work {params.work:q} --out {output.subject:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule check_pretraining:
    """Read every header of a set that only pretraining reads before hours of compute are spent."""
    input:
        script=ancient("workflow_scripts/check_pretraining.py"),
    output:
        grid=f"{R}/pretraining/{{dataset}}/grid.json",
    params:
        module=as_py_module(),
        code=code("check_pretraining"),
        packages=packages("check_pretraining"),
        settings=settings("check_pretraining"),
        config=CONFIG,
    log:
        f"{R}/logs/check_pretraining/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(4000, 4000),
        runtime=minutes(240, 60),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Check the derivatives of {wildcards.dataset}, for pretraining"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --grid {output.grid:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
