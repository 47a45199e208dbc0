"""What the frozen encoder makes of each trial, for Stage II and for decoding."""


rule fmri_tokens:
    """Tokens of the frozen encoder, of all trials of a role: computed once, read by Stage II (train, adapt) and by decoding (test)."""
    input:
        script=ancient("workflow_scripts/fmri_tokens.py"),
        series=of_role(of_variant("series")),
        voxels=of_role(of_variant("voxels")),
        trials=of_role(of_variant("trials")),
        stage1=lambda w: f"{R}/stage1/{w.dataset}/{ENCODERS[w.variant]}",
        models=expand(f"{R}/models/{{asset}}", asset=["connectors"]),
    output:
        tokens=f"{R}/fmri_tokens/{{dataset}}/variant-{{variant}}_role-{{role}}_tokens.npy",
    params:
        module=as_py_module(),
        code=code("fmri_tokens"),
        packages=packages("fmri_tokens"),
        settings=settings("fmri_tokens"),
        config=CONFIG,
    log:
        f"{R}/logs/fmri_tokens/{{dataset}}_variant-{{variant}}_role-{{role}}.log",
    threads: CORES
    resources:
        mem_mb=memory(32000, 1500),
        runtime=minutes(120, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/models.yaml"
    message:
        "Encode the fMRI of {wildcards.dataset}, variant {wildcards.variant}, role {wildcards.role}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --variant {wildcards.variant} --role {wildcards.role}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q} --stage1 {input.stage1:q}"
        " --models {input.models:q} --tokens {output.tokens:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
