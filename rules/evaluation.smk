"""Evaluation of the frozen encoder before any text is decoded; scores of every condition, and the paper's tables."""


use rule step as retrieval with:
    """Retrieve the test clips of target subjects' fMRI tokens by the similarity of Stage I, for the model and its controls."""
    input:
        script=ancient("workflow_scripts/retrieval.py"),
        tokens=lambda w: [tokens_of(w.dataset, *made) for made in needed(experiment.conditions(w.dataset)).tokens if made[-1] == "test"],
        labels=of_validation_subjects(LABELS),
        features=shards("test", "features.npy"),
        models=models("connectors"),
    output:
        csv=report(
            RETRIEVAL,
            caption="../report/retrieval.rst",
            category="Retrieval",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"{R}/logs/retrieval/{{dataset}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(32000, 1500),
        runtime=minutes(60, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Retrieve the test clips of {wildcards.dataset}"
    priority: -1


use rule step as information_map with:
    """Map the decoded information in the brain: each voxel's contribution to the match of a test trial with its own clip."""
    input:
        script=ancient("workflow_scripts/information_map.py"),
        series=of_validation_subjects(SERIES),
        voxels=of_validation_subjects(VOXELS),
        trials=of_validation_subjects(TRIALS),
        labels=of_validation_subjects(LABELS),
        features=shards("test", "features.npy"),
        stage1=f"{R}/stage1/{{dataset}}/model",
        models=models("connectors"),
    output:
        map=INFORMATION,
        about=f"{R}/maps/{{dataset}}_information.json",
    log:
        f"{R}/logs/information_map/{{dataset}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(32000, 2000),
        runtime=minutes(240, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Map the information about the clips in the brains of {wildcards.dataset}"
    priority: -1


use rule step as scores with:
    """Score the decoded texts of all conditions in one process, so that an equal pair of text and caption is scored only once."""
    input:
        script=ancient("workflow_scripts/scores.py"),
        decoded=lambda w: [f"{R}/decoded/{w.dataset}/condition-{c}.parquet" for c in experiment.conditions(w.dataset, w.references)],
        captions=shards("test", "captions.parquet"),
        descriptions=people,
        models=models("sentence_encoder", "bertscore_encoder"),
    output:
        scores=SCORES,
        pairs=PAIRS,
    log:
        f"{R}/logs/scores/{{dataset}}{{references}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(32000, 1500),
        runtime=minutes(120, 30),
    conda:
        "../envs/evaluation.yaml"
    message:
        "Score {wildcards.dataset}{wildcards.references}"


use rule step as tables with:
    """Make the paper's table, next to the published values and the controls, or one against people's sentences; over all folds."""
    input:
        script=ancient("workflow_scripts/tables.py"),
        scores=of_folds(SCORES),
        pairs=of_folds(PAIRS),
        labels=of_folds(LABELS),
        excluded=of_folds(EXCLUDED),
        leakage=of_folds(LEAKAGE),
        descriptions=descriptions,
    output:
        csv=report(
            f"{R}/tables/{{dataset}}{{references}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"data set": "{dataset}{references}"},
        ),
        md=f"{R}/tables/{{dataset}}{{references}}.md",
        tex=f"{R}/tables/{{dataset}}{{references}}.tex",
        differences=f"{R}/tables/{{dataset}}{{references}}_differences.csv",
        tests=f"{R}/tables/{{dataset}}{{references}}_tests.csv",
        left_out=f"{R}/tables/{{dataset}}{{references}}_left_out.csv",
    log:
        f"{R}/logs/tables/{{dataset}}{{references}}.log",
    conda:
        "../envs/report.yaml"
    message:
        "Make the table of {wildcards.dataset}{wildcards.references}"
