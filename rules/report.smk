"""Report on one page: decoded texts, scores compared with the controls, and the origin of each result."""


use rule step as report with:
    """Write text, tables, figures, gallery and all trials of all data sets to one self-contained page."""
    input:
        script=ancient("workflow_scripts/report.py"),
        tables=of_tables(rules.tables.output.csv),
        differences=of_tables(rules.tables.output.differences),
        tests=of_tables(rules.tables.output.tests),
        left_out=of_tables(rules.tables.output.left_out),
        markdown=of_tables(rules.tables.output.md),
        latex=of_tables(rules.tables.output.tex),
        scores=[path for f in FOLDS for path in expand(SCORES, dataset=f, references=experiment.references(f))],
        labels=[LABELS.format(dataset=f, subject=s) for f in FOLDS for s in subjects(f)],
        frames=expand(rules.frames.output.frames, dataset=FOLDS, split="test", shard=SHARDS),
        stages=expand(f"{R}/{{stage}}/{{dataset}}/model", stage=["stage1", "stage2"], dataset=FOLDS),
        sc_mbm=expand(rules.pretrain_sc_mbm.output.curve, dataset=FOLDS),
        retrieval=expand(RETRIEVAL, dataset=FOLDS),
        maps=expand([INFORMATION, rules.information_map.output.about], dataset=FOLDS),
        reliability=expand(RELIABILITY, dataset=FOLDS),
        quality=expand(QUALITY, dataset=FOLDS),
        leakage=expand(LEAKAGE, dataset=FOLDS),
        descriptions=[path for d in DATASETS for path in description_files(d)],
    output:
        html=f"{R}/report.html",
    log:
        f"{R}/logs/report.log",
    resources:
        mem_mb=memory(4000, 1500),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Write the report"


use rule step as provenance with:
    """Close the ledger, and write a browsable page with the origin of each result."""
    input:
        script=ancient("workflow_scripts/provenance.py"),
        report=rules.report.output.html,
    output:
        html=f"{R}/provenance.html",
    log:
        f"{R}/logs/provenance.log",
    resources:
        mem_mb=memory(2000, 2000),
        runtime=minutes(30, 30),
    conda:
        "../envs/report.yaml"
    message:
        "Close the ledger and write the provenance page"
