"""The fMRI encoder: masked-autoencoder pretraining, then cross-modal alignment (Stage I). No target subject takes part."""


rule pretrain_sc_mbm:
    """Masked brain modelling on BOLD, of source subjects and of people who are in no table."""
    input:
        script=ancient("workflow_scripts/pretrain_sc_mbm.py"),
        series=of_train_subjects(SERIES),
        voxels=of_train_subjects(VOXELS),
        trials=of_train_subjects(TRIALS),
        further=of_pretraining_subjects(PRETRAINING_SERIES),
        further_voxels=of_pretraining_subjects(PRETRAINING_VOXELS),
        models=[f"{R}/models/sc_mbm"] if experiment.sc_mbm.checkpoint else [],
    output:
        weights=f"{R}/sc_mbm/{{dataset}}/sc_mbm.safetensors",
        curve=f"{R}/sc_mbm/{{dataset}}/curve.parquet",
    params:
        module=as_py_module(),
        code=code("pretrain_sc_mbm"),
        packages=packages("pretrain_sc_mbm"),
        settings=settings("pretrain_sc_mbm"),
        launch=LAUNCH,
        config=CONFIG,
        work=f"{R}/work/sc_mbm/{{dataset}}",
    log:
        f"{R}/logs/pretrain_sc_mbm/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(64000, 2000),
        runtime=minutes(1440, 60),
        nodes=NODES,
        tasks=tasks(PROCESSES, NODES),
        gpu=gpus(PROCESSES, NODES),
        gpu_model=gpu_model(PROCESSES, NODES),
        gres=gres(PROCESSES, NODES),
        slurm_extra=REQUESTS.leave(),
    conda:
        "../envs/models.yaml"
    message:
        "Pretrain SC-MBM for {wildcards.dataset}"
    shell:
        "{params.launch} --nodes {resources.nodes} -- {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q}"
        " --models {input.models:q} --work {params.work:q}"
        " --weights {output.weights:q} --curve {output.curve:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule stage1:
    """Align the fMRI tokens with the video tokens of the same clip (equations 1 and 2): the model, or a training to compare it with."""
    input:
        script=ancient("workflow_scripts/stage1.py"),
        series=of_train_subjects(of_variant("series")),
        voxels=of_train_subjects(of_variant("voxels")),
        trials=of_train_subjects(of_variant("trials")),
        labels=of_train_subjects(LABELS),
        features=shards("train", "features.npy"),
        sc_mbm=rules.pretrain_sc_mbm.output.weights,
        models=expand(f"{R}/models/{{asset}}", asset=["connectors"]),
    output:
        folder=directory(f"{R}/stage1/{{dataset}}/{{variant}}"),
    params:
        module=as_py_module(),
        code=code("stage1"),
        packages=packages("stage1"),
        settings=settings("stage1"),
        launch=LAUNCH,
        config=CONFIG,
        work=f"{R}/work/stage1/{{dataset}}/{{variant}}",
    log:
        f"{R}/logs/stage1/{{dataset}}_variant-{{variant}}.log",
    threads: CORES
    resources:
        mem_mb=memory(64000, 2000),
        runtime=minutes(1440, 60),
        nodes=NODES,
        tasks=tasks(PROCESSES, NODES),
        gpu=gpus(PROCESSES, NODES),
        gpu_model=gpu_model(PROCESSES, NODES),
        gres=gres(PROCESSES, NODES),
        slurm_extra=REQUESTS.leave(),
    conda:
        "../envs/models.yaml"
    message:
        "Stage I on {wildcards.dataset}, variant {wildcards.variant}"
    shell:
        "{params.launch} --nodes {resources.nodes} -- {params.module} --config {params.config:q} --dataset {wildcards.dataset} --variant {wildcards.variant}"
        " --series {input.series:q} --voxels {input.voxels:q} --trials {input.trials:q} --labels {input.labels:q} --features {input.features:q}"
        " --models {input.models:q} --sc-mbm {input.sc_mbm:q} --work {params.work:q} --folder {output.folder:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
