"""SC-MBM's pretraining, Stage I, the frozen encoder's tokens, Stage II. Of target subjects, only unlabelled fMRI tokens are used."""


use rule step as pretrain_sc_mbm with:
    """Pretrain by masked brain modelling on BOLD of source subjects and of people who are in no table."""
    input:
        of_pretraining_subjects(PRETRAINING_SERIES),
        of_pretraining_subjects(PRETRAINING_VOXELS),
        script=ancient("workflow_scripts/pretrain_sc_mbm.py"),
        series=of_train_subjects(SERIES),
        voxels=of_train_subjects(VOXELS),
        trials=of_train_subjects(TRIALS),
        models=[f"{R}/models/sc_mbm"] if experiment.sc_mbm.checkpoint else [],
    output:
        weights=f"{R}/sc_mbm/{{dataset}}/sc_mbm.safetensors",
        curve=f"{R}/sc_mbm/{{dataset}}/curve.parquet",
    params:
        run=launch,
        processes=PROCESSES,
    log:
        f"{R}/logs/pretrain_sc_mbm/{{dataset}}.log",
    threads: CORES
    resources:
        **FOR_TRAINING,
        mem_mb=memory(64000, 2000),
        runtime=minutes(1440, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Pretrain SC-MBM for {wildcards.dataset}"


use rule step as stage1 with:
    """Align the fMRI tokens with the video tokens of the same clip (equations 1 and 2), for the model or for a comparison."""
    input:
        script=ancient("workflow_scripts/stage1.py"),
        series=of_train_subjects(of_data("series")),
        voxels=of_train_subjects(of_data("voxels")),
        trials=of_train_subjects(of_data("trials")),
        labels=of_train_subjects(LABELS),
        features=shards("train", "features.npy"),
        sc_mbm=rules.pretrain_sc_mbm.output.weights,
        models=models("connectors"),
    output:
        folder=directory(f"{R}/stage1/{{dataset}}/{{encoder}}"),
    params:
        run=launch,
        processes=PROCESSES,
    log:
        f"{R}/logs/stage1/{{dataset}}_encoder-{{encoder}}.log",
    threads: CORES
    resources:
        **FOR_TRAINING,
        mem_mb=memory(64000, 2000),
        runtime=minutes(1440, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Train Stage I on {wildcards.dataset}, encoder {wildcards.encoder}"


use rule step as fmri_tokens with:
    """Encode all trials of a role with the frozen encoder, once for Stage II (train, adapt) and decoding (test)."""
    input:
        script=ancient("workflow_scripts/fmri_tokens.py"),
        series=of_role(of_data("series")),
        voxels=of_role(of_data("voxels")),
        trials=of_role(of_data("trials")),
        stage1=f"{R}/stage1/{{dataset}}/{{encoder}}",
        models=models("connectors"),
    output:
        tokens=tokens_of("{dataset}", "{encoder}", "{data}", "{role}"),
    log:
        f"{R}/logs/fmri_tokens/{{dataset}}_encoder-{{encoder}}_data-{{data}}_role-{{role}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(32000, 1500),
        runtime=minutes(120, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Encode {wildcards.data} of {wildcards.dataset} with the encoder {wildcards.encoder}, role {wildcards.role}"


use rule step as stage2 with:
    """Train the bridge on source captions; target subjects contribute only unlabelled fMRI tokens (equations 3 to 6)."""
    input:
        script=ancient("workflow_scripts/stage2.py"),
        trials=of_train_subjects(TRIALS),
        labels=of_train_subjects(LABELS),
        captions=shards("train", "captions.parquet"),
        tokens=tokens_for_bridge("train"),
        target_tokens=tokens_for_bridge("adapt"),
        models=models("llm", "connectors"),
    output:
        folder=directory(f"{R}/stage2/{{dataset}}/{{bridge}}"),
    params:
        run=launch,
        processes=PROCESSES,
    log:
        f"{R}/logs/stage2/{{dataset}}_bridge-{{bridge}}.log",
    threads: CORES
    resources:
        **FOR_TRAINING,
        mem_mb=memory(96000, 2500),
        runtime=minutes(1440, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Train Stage II on {wildcards.dataset}, bridge {wildcards.bridge}"
