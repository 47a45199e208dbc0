"""Scores of every condition, and the paper's tables."""


rule scores:
    """Score the decoded texts of a data set, all conditions in one process: each pair of text and caption once, whoever wrote it."""
    input:
        script=ancient("workflow_scripts/scores.py"),
        decoded=lambda w: [f"{R}/decoded/{w.dataset}/condition-{c}.parquet" for c in experiment.conditions(w.dataset)],
        captions=shards("test", "captions.parquet"),
        models=expand(f"{R}/models/{{asset}}", asset=["sentence_encoder", "bertscore_encoder"]),
    output:
        scores=SCORES,
        pairs=PAIRS,
    params:
        module=as_py_module(),
        code=code("scores"),
        packages=packages("scores"),
        settings=settings("scores"),
        config=CONFIG,
    log:
        f"{R}/logs/scores/{{dataset}}.log",
    threads: CORES
    resources:
        mem_mb=memory(32000, 1500),
        runtime=minutes(120, 30),
        gpu=gpus(),
        gpu_model=gpu_model(),
        gres=gres(),
    conda:
        "../envs/evaluation.yaml"
    message:
        "Score {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset}"
        " --models {input.models:q} --decoded {input.decoded:q} --captions {input.captions:q} --scores {output.scores:q} --pairs {output.pairs:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule tables:
    """The paper's table beside the published values and the controls; in a rotation, over all folds."""
    input:
        script=ancient("workflow_scripts/tables.py"),
        scores=of_folds(SCORES),
        pairs=of_folds(PAIRS),
        labels=of_folds(LABELS),
        excluded=of_folds(EXCLUDED),
        leakage=of_folds(LEAKAGE),
    output:
        csv=report(
            f"{R}/tables/{{dataset}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"data set": "{dataset}"},
        ),
        md=f"{R}/tables/{{dataset}}.md",
        tex=f"{R}/tables/{{dataset}}.tex",
        differences=f"{R}/tables/{{dataset}}_differences.csv",
        tests=f"{R}/tables/{{dataset}}_tests.csv",
        left_out=f"{R}/tables/{{dataset}}_left_out.csv",
    params:
        module=as_py_module(),
        code=code("tables"),
        packages=packages("tables"),
        settings=settings("tables"),
        config=CONFIG,
    log:
        f"{R}/logs/tables/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Make the table of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --scores {input.scores:q} --pairs {input.pairs:q}"
        " --labels {input.labels:q} --excluded {input.excluded:q} --leakage {input.leakage:q} --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q}"
        " --differences {output.differences:q} --tests {output.tests:q} --left-out {output.left_out:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
