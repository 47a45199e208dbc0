"""Raw BIDS to BIDS-Derivatives, to cleaned series, to trials."""


use rule step as check_dataset with:
    """Check every header, event file and stimulus name before hours of compute are spent."""
    input:
        script=ancient("workflow_scripts/check_dataset.py"),
        raw=raw_dataset,
    output:
        report=f"{R}/checked/{{dataset}}.json",
    log:
        f"{R}/logs/check_dataset/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(8000, 2000),
        runtime=minutes(120, 30),
    message:
        "Check the raw data of {wildcards.dataset}"


use rule step as check_preprocessing with:
    """Check for everything that would stop fMRIPrep, on the machine where Snakemake runs, before its jobs wait in a queue."""
    input:
        script=ancient("workflow_scripts/check_preprocessing.py"),
    output:
        report=f"{R}/checked/{{dataset}}_preprocessing.json",
    params:
        container=container_digest,
    log:
        f"{R}/logs/check_preprocessing/{{dataset}}.log",
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(10, 10),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Check that fMRIPrep can run on {wildcards.dataset}"


use rule step as fmriprep with:
    """Motion correction, coregistration, normalisation and confounds of one subject (preprocessing.engine)."""
    input:
        script=ancient("workflow_scripts/fmriprep.py"),
        raw=raw_subject,
        transforms=ready_transforms,
        checked=rules.check_dataset.output.report,
        preflight=rules.check_preprocessing.output.report if FMRIPREP else [],
    output:
        out=directory(f"{R}/derivatives/{{dataset}}/sub-{{subject}}"),
    params:
        container=container_digest,
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


use rule step as check_pretraining with:
    """Check every header of a pretraining-only data set before hours of compute are spent."""
    input:
        script=ancient("workflow_scripts/check_pretraining.py"),
    output:
        grid=f"{R}/pretraining/{{dataset}}/grid.json",
    log:
        f"{R}/logs/check_pretraining/{{dataset}}.log",
    resources:
        mem_mb=memory(4000, 4000),
        runtime=minutes(240, 60),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Check the derivatives of {wildcards.dataset}, for pretraining"


use rule step as bold_series with:
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
    log:
        f"{R}/logs/bold_series/{{dataset}}_sub-{{subject}}.log",
    resources:
        mem_mb=memory(16000, 1000, of_input=2),
        runtime=minutes(120, 30, of_input=30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Clean the BOLD series of {wildcards.dataset} sub-{wildcards.subject}"


use rule step as pretraining_series with:
    """Mask, denoise and z-score the runs of a pretraining-only subject."""
    input:
        script=ancient("workflow_scripts/pretraining_series.py"),
        derivatives=lambda w: f"{experiment.pretraining[w.dataset].derivatives_dir}/sub-{w.subject}",
        manifest=rules.fetch_pretraining.output.marker,
        checked=rules.check_pretraining.output.grid,
    output:
        series=PRETRAINING_SERIES,
        voxels=PRETRAINING_VOXELS,
        displacement=f"{R}/pretraining/{{dataset}}/sub-{{subject}}_framewise_displacement.npy",
    log:
        f"{R}/logs/pretraining_series/{{dataset}}_sub-{{subject}}.log",
    resources:
        mem_mb=memory(16000, 1000, of_input=2),
        runtime=minutes(120, 30, of_input=30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Clean the BOLD series of {wildcards.dataset} sub-{wildcards.subject}, for pretraining"


use rule step as trials with:
    """Index a subject's trials, with labels in a separate file, so that training on target subjects cannot see them."""
    input:
        descriptions,
        script=ancient("workflow_scripts/trials.py"),
        raw=raw_subject,
        series=of_subject(SERIES),
        displacement=of_subject(DISPLACEMENT),
        checked=checked,
    output:
        trials=TRIALS,
        labels=LABELS,
        excluded=EXCLUDED,
    log:
        f"{R}/logs/trials/{{dataset}}_sub-{{subject}}.log",
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Index the trials of {wildcards.dataset} sub-{wildcards.subject}"
