"""Quality of the data, their noise ceiling, and what test trials share with training. No training step, so all labels may be read."""


use rule step as quality with:
    """Report the data quality of each subject: runs, voxels, trials kept and excluded, missing responses, motion."""
    input:
        script=ancient("workflow_scripts/quality.py"),
        series=of_subjects(SERIES),
        displacement=of_subjects(DISPLACEMENT),
        trials=of_subjects(TRIALS),
        excluded=of_subjects(EXCLUDED),
        checked=checked,
    output:
        csv=report(
            QUALITY,
            caption="../report/quality.rst",
            category="Data quality",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"{R}/logs/quality/{{dataset}}.log",
    conda:
        "../envs/report.yaml"
    message:
        "Assess the data quality of {wildcards.dataset}"
    priority: -1


use rule step as reliability with:
    """Measure how well responses to the same clip agree, within and across subjects, or report that no clip repeats."""
    input:
        script=ancient("workflow_scripts/reliability.py"),
        series=of_subjects(SERIES),
        voxels=of_subjects(VOXELS),
        trials=of_subjects(TRIALS),
        labels=of_subjects(LABELS),
    output:
        reliability=RELIABILITY,
    log:
        f"{R}/logs/reliability/{{dataset}}.log",
    resources:
        mem_mb=memory(16000, 1000),
        runtime=minutes(60, 30),
    conda:
        "../envs/preprocessing.yaml"
    message:
        "Compare the responses of {wildcards.dataset} to the same clips"
    priority: -1


use rule step as leakage with:
    """Count shared clips, source videos and captions; stop a strict run that shares any clip or source."""
    input:
        script=ancient("workflow_scripts/leakage.py"),
        trials=of_subjects(TRIALS),
        labels=of_subjects(LABELS),
        source_captions=shards("train", "captions.parquet"),
        test_captions=shards("test", "captions.parquet"),
    output:
        json=LEAKAGE,
        md=f"{R}/leakage/{{dataset}}.md",
    log:
        f"{R}/logs/leakage/{{dataset}}.log",
    conda:
        "../envs/report.yaml"
    message:
        "Check {wildcards.dataset} for leakage"
    priority: -1
