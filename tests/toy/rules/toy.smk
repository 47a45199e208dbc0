"""The toy's chapters: two data sets of three subjects, of whom the last is the test subject."""

SUBJECTS = ["01", "02", "03"]


use rule step as simulate_subject with:
    """A folder of two runs of random numbers."""
    input:
        script=ancient("workflow_scripts/simulate_subject.py"),
    output:
        out=directory(f"{R}/raw/{{dataset}}/sub-{{subject}}"),
    log:
        f"{R}/logs/simulate_subject/{{dataset}}_{{subject}}.log",
    message:
        "Draw sub-{wildcards.subject} of {wildcards.dataset}"


use rule step as fetch_model with:
    """Weights drawn here, or a link to an asset of the lock."""
    input:
        script=ancient("workflow_scripts/fetch_model.py"),
    output:
        model=directory(f"{R}/models/{{asset}}"),
    log:
        f"{R}/logs/fetch_model/{{asset}}.log",
    message:
        "Provide the model {wildcards.asset}"


use rule step as bold_series with:
    """The runs of a subject, clipped, in one array."""
    input:
        script=ancient("workflow_scripts/bold_series.py"),
        raw=rules.simulate_subject.output.out,
    output:
        series=f"{R}/bold/{{dataset}}/sub-{{subject}}_bold.npy",
    log:
        f"{R}/logs/bold_series/{{dataset}}_{{subject}}.log",
    message:
        "Clean sub-{wildcards.subject} of {wildcards.dataset}"


use rule step as stage1 with:
    """Weights of the voxels, from the subjects that train."""
    input:
        script=ancient("workflow_scripts/stage1.py"),
        series=expand(f"{R}/bold/{{{{dataset}}}}/sub-{{subject}}_bold.npy", subject=SUBJECTS[:-1]),
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        folder=directory(f"{R}/stage1/{{dataset}}/model"),
    log:
        f"{R}/logs/stage1/{{dataset}}.log",
    message:
        "Train on {wildcards.dataset}"


use rule step as scores with:
    """A score for each volume of the test subject."""
    input:
        script=ancient("workflow_scripts/scores.py"),
        series=f"{R}/bold/{{dataset}}/sub-03_bold.npy",
        stage1=rules.stage1.output.folder,
    output:
        scores=f"{R}/scores/{{dataset}}.parquet",
    log:
        f"{R}/logs/scores/{{dataset}}.log",
    message:
        "Score {wildcards.dataset}"


use rule step as tables with:
    """Mean and interval of the scores."""
    input:
        script=ancient("workflow_scripts/tables.py"),
        scores=rules.scores.output.scores,
    output:
        csv=f"{R}/tables/{{dataset}}.csv",
        md=f"{R}/tables/{{dataset}}.md",
    log:
        f"{R}/logs/tables/{{dataset}}.log",
    message:
        "Make the table of {wildcards.dataset}"


use rule step as provenance with:
    """Close the ledger, by the real program."""
    input:
        script=ancient("workflow_scripts/provenance.py"),
        report=expand(rules.tables.output.csv, dataset=DATASETS),
    output:
        html=f"{R}/provenance.html",
    log:
        f"{R}/logs/provenance.log",
    message:
        "Close the ledger"
