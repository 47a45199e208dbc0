"""Download of data and weights; the only rules that may use the network."""


use rule step as fetch_dataset with:
    """Fetch the missing files of a measured data set; the next two rules write simulated ones."""
    input:
        dataset_manifest,
        script=ancient("workflow_scripts/fetch_dataset.py"),
    output:
        marker=f"{R}/fetched/{{dataset}}.json",
    log:
        f"{R}/logs/fetch_dataset/{{dataset}}.log",
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(60, 30),
    message:
        "Fetch the data set {wildcards.dataset}"


use rule step as simulate_stimuli with:
    """Render the clips of a simulated data set and write its data-set-level BIDS files."""
    input:
        script=ancient("workflow_scripts/simulate_stimuli.py"),
    output:
        stimuli=directory(f"{R}/raw/{{dataset}}/stimuli"),
        description=f"{R}/raw/{{dataset}}/dataset_description.json",
    log:
        f"{R}/logs/simulate_stimuli/{{dataset}}.log",
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(60, 30),
    message:
        "Render the clips of {wildcards.dataset}"


use rule step as simulate_subject with:
    """Simulate one subject's T1w and BOLD while watching the clips."""
    input:
        script=ancient("workflow_scripts/simulate_subject.py"),
        stimuli=rules.simulate_stimuli.output.stimuli,
    output:
        out=directory(f"{R}/raw/{{dataset}}/sub-{{subject}}"),
    log:
        f"{R}/logs/simulate_subject/{{dataset}}_sub-{{subject}}.log",
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(60, 30),
    message:
        "Simulate BOLD of {wildcards.dataset} sub-{wildcards.subject}"


use rule step as fetch_model with:
    """Provide a model as a folder of safetensors: unpack an embedded one, or check and link a configured one."""
    input:
        script=ancient("workflow_scripts/fetch_model.py"),
    output:
        model=directory(f"{R}/models/{{asset}}"),
    log:
        f"{R}/logs/fetch_model/{{asset}}.log",
    resources:
        mem_mb=memory(4000, 4000),
        runtime=minutes(60, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Provide the model {wildcards.asset}"


use rule step as fetch_pretraining with:
    """Record the derivatives of a pretraining-only subject in a manifest."""
    input:
        script=ancient("workflow_scripts/fetch_pretraining.py"),
    output:
        marker=f"{R}/fetched/{{dataset}}_sub-{{subject}}.json",
    log:
        f"{R}/logs/fetch_pretraining/{{dataset}}_sub-{{subject}}.log",
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "List the files of {wildcards.dataset} sub-{wildcards.subject} in a manifest, for pretraining"
