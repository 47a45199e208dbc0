"""Text from fMRI tokens and prompt alone, by the model and by each control."""


rule decode:
    """Decode a target subject's test trials under one condition."""
    input:
        script=ancient("workflow_scripts/decode.py"),
        series=SERIES,
        voxels=VOXELS,
        trials=TRIALS,
        tokens=f"{R}/fmri_tokens/{{dataset}}/role-test_tokens.npy",
        stage1=rules.stage1.output.folder,
        stage2=rules.stage2.output.folder,
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        decoded=f"{R}/decoded/{{dataset}}/sub-{{subject}}_condition-{{condition}}.parquet",
    params:
        module=as_py_module(),
        code=code("decode"),
        packages=packages("decode"),
        settings=settings("decode"),
        config=CONFIG,
    log:
        f"{R}/logs/decode/{{dataset}}_sub-{{subject}}_condition-{{condition}}.log",
    benchmark:
        f"{R}/benchmarks/decode/{{dataset}}_sub-{{subject}}_condition-{{condition}}.tsv"
    threads: CORES
    resources:
        mem_mb=memory(64000, 2000),
        runtime=minutes(120, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/models.yaml"
    message:
        "Decode {wildcards.dataset} sub-{wildcards.subject}, condition {wildcards.condition}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --subject {wildcards.subject} --condition {wildcards.condition}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q} --tokens {input.tokens:q}"
        " --stage1 {input.stage1:q} --stage2 {input.stage2:q} --models {input.models:q} --decoded {output.decoded:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
