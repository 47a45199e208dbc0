"""Stimulus videos to frames and frozen features. `train` shards hold the clips of source subjects, `test` shards those of
target subjects' test runs; adaptation runs bring no clip to any shard."""


rule frames:
    """T uniformly spaced RGB frames of each clip of a shard."""
    input:
        script=ancient("workflow_scripts/frames.py"),
        raw=raw_stimuli,
        trials=of_split(TRIALS),
        labels=of_split(LABELS),
    output:
        frames=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_frames.npy",
    params:
        module=as_py_module(),
        code=code("frames"),
        packages=packages("frames"),
        settings=settings("frames"),
        config=CONFIG,
    log:
        f"{R}/logs/frames/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CORES
    resources:
        mem_mb=memory(4000, 1000),
        runtime=minutes(120, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Extract frames of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --split {wildcards.split} --shard {wildcards.shard}"
        " --raw {input.raw:q} --trials {input.trials:q} --labels {input.labels:q} --threads {threads} --frames {output.frames:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule video_features:
    """Tokens of the frozen visual encoder and image Q-Former: computed once, read by Stage I and the captioner."""
    input:
        script=ancient("workflow_scripts/video_features.py"),
        frames=rules.frames.output.frames,
        models=expand(f"{R}/models/{{asset}}", asset=["visual_encoder", "connectors"]),
    output:
        features=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_features.npy",
    params:
        module=as_py_module(),
        code=code("video_features"),
        packages=packages("video_features"),
        settings=settings("video_features"),
        config=CONFIG,
    log:
        f"{R}/logs/video_features/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CORES
    resources:
        mem_mb=memory(32000, 2500),
        runtime=minutes(120, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/models.yaml"
    message:
        "Encode the frames of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --split {wildcards.split} --shard {wildcards.shard}"
        " --models {input.models:q} --frames {input.frames:q} --features {output.features:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
