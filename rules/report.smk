"""One page to look at: what was decoded, how well beside its controls, and what it rests on."""


rule report:
    """Words, tables, figures, gallery and all trials of all data sets in one self-contained page."""
    input:
        script=ancient("workflow_scripts/report.py"),
        tables=expand(f"{R}/tables/{{dataset}}.csv", dataset=DATASETS),
        differences=expand(f"{R}/tables/{{dataset}}_differences.csv", dataset=DATASETS),
        tests=expand(f"{R}/tables/{{dataset}}_tests.csv", dataset=DATASETS),
        left_out=expand(f"{R}/tables/{{dataset}}_left_out.csv", dataset=DATASETS),
        markdown=expand(f"{R}/tables/{{dataset}}.md", dataset=DATASETS),
        latex=expand(f"{R}/tables/{{dataset}}.tex", dataset=DATASETS),
        scores=expand(SCORES, dataset=FOLDS),
        labels=[LABELS.format(dataset=f, subject=s) for f in FOLDS for s in subjects(f)],
        frames=expand(
            f"{R}/stimuli/{{dataset}}/test-{{shard}}_frames.npy",
            dataset=FOLDS,
            shard=SHARDS,
        ),
        stages=expand(f"{R}/{{stage}}/{{dataset}}/model", stage=["stage1", "stage2"], dataset=FOLDS),
        sc_mbm=expand(f"{R}/sc_mbm/{{dataset}}/curve.parquet", dataset=FOLDS),
        retrieval=expand(f"{R}/retrieval/{{dataset}}.csv", dataset=FOLDS),
        maps=expand(
            f"{R}/maps/{{dataset}}_information.{{suffix}}",
            dataset=FOLDS,
            suffix=["nii.gz", "json"],
        ),
        reliability=expand(f"{R}/reliability/{{dataset}}.csv", dataset=FOLDS),
        quality=expand(f"{R}/quality/{{dataset}}.csv", dataset=FOLDS),
        leakage=expand(f"{R}/leakage/{{dataset}}.json", dataset=FOLDS),
    output:
        html=f"{R}/report.html",
    params:
        module=as_py_module(),
        code=code("report"),
        packages=packages("report"),
        settings=settings("report"),
        config=CONFIG,
    log:
        f"{R}/logs/report.log",
    threads: 1
    resources:
        mem_mb=memory(4000, 1500),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Write the report"
    shell:
        "python -m {params.module} --config {params.config:q} --tables {input.tables:q} --differences {input.differences:q}"
        " --tests {input.tests:q} --left-out {input.left_out:q} --markdown {input.markdown:q} --latex {input.latex:q}"
        " --scores {input.scores:q} --labels {input.labels:q} --frames {input.frames:q} --stages {input.stages:q}"
        " --sc-mbm {input.sc_mbm:q} --retrieval {input.retrieval:q} --maps {input.maps:q} --reliability {input.reliability:q}"
        " --quality {input.quality:q} --leakage {input.leakage:q} --html {output.html:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule provenance:
    """Close the ledger, and write where each result comes from as a page to click through."""
    input:
        script=ancient("workflow_scripts/provenance.py"),
        report=rules.report.output.html,
    output:
        html=f"{R}/provenance.html",
    params:
        module=as_py_module(),
        code=code("provenance"),
        packages=packages("provenance"),
        settings=settings("provenance"),
        config=CONFIG,
    log:
        f"{R}/logs/provenance.log",
    threads: 1
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Close the ledger and write the provenance page"
    shell:
        "python -m {params.module} --config {params.config:q} --report {input.report:q} --html {output.html:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
