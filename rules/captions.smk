"""Pseudo-captions: Video-LLaMA's answer to each record's instruction, or that of another video-text model (docs/captioners.md)."""


rule captions:
    """Caption the clips of a shard, one answer per record and its instruction."""
    input:
        script=ancient("workflow_scripts/captions.py"),
        trials=of_split(TRIALS),
        labels=of_split(LABELS),
        clips=rules.video_features.output.features if OWN_CAPTIONS else rules.frames.output.frames,
        models=expand(
            f"{R}/models/{{asset}}",
            asset=["llm", "connectors"] if OWN_CAPTIONS else ["captioner"],
        ),
    output:
        captions=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_captions.parquet",
    params:
        module=as_py_module(),
        code=code("captions"),
        packages=packages("captions"),
        settings=settings("captions" if OWN_CAPTIONS else "captions/video_text"),
        config=CONFIG,
    log:
        f"{R}/logs/captions/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CORES if OWN_CAPTIONS else 8
    resources:
        mem_mb=memory(64000, 2000 if OWN_CAPTIONS else 64000),
        runtime=minutes(240, 60),
        gpu=gpus(needed=not OWN_CAPTIONS),
        gpu_model=gpu_model(needed=not OWN_CAPTIONS),
        gres=gres(needed=not OWN_CAPTIONS),
    conda:
        "../envs/models.yaml"
    message:
        "Caption the clips of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --split {wildcards.split} --shard {wildcards.shard}"
        " --trials {input.trials:q} --labels {input.labels:q} --clips {input.clips:q}"
        " --models {input.models:q} --captions {output.captions:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
