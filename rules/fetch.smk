"""Data and weights from outside: the only rules that may use the network."""


rule fetch_dataset:
    """Fetch what is lacking of a measured data set; simulated ones are written by the next two rules."""
    input:
        script=ancient("workflow_scripts/fetch_dataset.py"),
        manifest=dataset_manifest,
    output:
        marker=f"{R}/fetched/{{dataset}}.json",
    params:
        module=as_py_module(),
        code=code("fetch_dataset"),
        packages=packages("fetch_dataset"),
        settings=settings("fetch_dataset"),
        config=CONFIG,
    log:
        f"{R}/logs/fetch_dataset/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Fetch the data set {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --marker {output.marker:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule simulate_stimuli:
    """Render the clips of a simulated data set and write its data-set-level BIDS files."""
    input:
        script=ancient("workflow_scripts/simulate_stimuli.py"),
    output:
        stimuli=directory(f"{R}/raw/{{dataset}}/stimuli"),
        description=f"{R}/raw/{{dataset}}/dataset_description.json",
    params:
        module=as_py_module(),
        code=code("simulate_stimuli"),
        packages=packages("simulate_stimuli"),
        settings=settings("simulate_stimuli"),
        config=CONFIG,
    log:
        f"{R}/logs/simulate_stimuli/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(60, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Render the clips of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --stimuli {output.stimuli:q} --description {output.description:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule simulate_subject:
    """Simulate one subject's T1w and BOLD while watching the clips."""
    input:
        script=ancient("workflow_scripts/simulate_subject.py"),
        stimuli=rules.simulate_stimuli.output.stimuli,
    output:
        subject=directory(f"{R}/raw/{{dataset}}/sub-{{subject}}"),
    params:
        module=as_py_module(),
        code=code("simulate_subject"),
        packages=packages("simulate_subject"),
        settings=settings("simulate_subject"),
        config=CONFIG,
    log:
        f"{R}/logs/simulate_subject/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(60, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Simulate BOLD of {wildcards.dataset} sub-{wildcards.subject}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --stimuli {input.stimuli:q} --out {output.subject:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule fetch_model:
    """Provide a model as a folder of safetensors: unpack an embedded one, or check and link a configured one."""
    input:
        script=ancient("workflow_scripts/fetch_model.py"),
    output:
        model=directory(f"{R}/models/{{asset}}"),
    params:
        module=as_py_module(),
        code=code("fetch_model"),
        packages=packages("fetch_model"),
        settings=settings("fetch_model/{asset}"),
        config=CONFIG,
    log:
        f"{R}/logs/fetch_model/{{asset}}.log",
    threads: 1
    resources:
        mem_mb=memory(4000, 4000),
        runtime=minutes(60, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Provide the model {wildcards.asset}"
    shell:
        "python -m {params.module} --config {params.config:q} --asset {wildcards.asset} --model {output.model:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule fetch_pretraining:
    """Enter the derivatives of a subject whom only pretraining reads in a manifest."""
    input:
        script=ancient("workflow_scripts/fetch_pretraining.py"),
    output:
        marker=f"{R}/fetched/{{dataset}}_sub-{{subject}}.json",
    params:
        module=as_py_module(),
        code=code("fetch_pretraining"),
        packages=packages("fetch_pretraining"),
        settings=settings("fetch_pretraining"),
        config=CONFIG,
    log:
        f"{R}/logs/fetch_pretraining/{{dataset}}_sub-{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Enter {wildcards.dataset} sub-{wildcards.subject} in a manifest, for pretraining"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject}"
        " --marker {output.marker:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
