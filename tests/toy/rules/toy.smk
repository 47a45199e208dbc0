"""The toy's chapters: two data sets of three subjects, of whom the last is the test subject."""

SUBJECTS = ["01", "02", "03"]


rule simulate_subject:
    """A folder of two runs of random numbers."""
    input:
        script=ancient("workflow_scripts/simulate_subject.py"),
    output:
        out=directory(f"{R}/raw/{{dataset}}/sub-{{subject}}"),
    params:
        module=as_py_module(),
        code=code("simulate_subject"),
        packages=packages("simulate_subject"),
        settings=settings("simulate_subject"),
        config=CONFIG,
    log:
        f"{R}/logs/simulate_subject/{{dataset}}_{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Draw sub-{wildcards.subject} of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject} --out {output.out:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule fetch_model:
    """Weights drawn here, or a link to an asset of the lock."""
    input:
        script=ancient("workflow_scripts/fetch_model.py"),
    output:
        model=directory(f"{R}/models/{{asset}}"),
    params:
        module=as_py_module(),
        code=code("fetch_model"),
        packages=packages("fetch_model"),
        settings=settings("fetch_model/{asset}"),
        config=CONFIG,
    log:
        f"{R}/logs/fetch_model/{{asset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Provide the model {wildcards.asset}"
    shell:
        "python -m {params.module} --config {params.config:q} --asset {wildcards.asset} --model {output.model:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule bold_series:
    """The runs of a subject, clipped, in one array."""
    input:
        script=ancient("workflow_scripts/bold_series.py"),
        raw=rules.simulate_subject.output.out,
    output:
        series=f"{R}/bold/{{dataset}}/sub-{{subject}}_bold.npy",
    params:
        module=as_py_module(),
        code=code("bold_series"),
        packages=packages("bold_series"),
        settings=settings("bold_series"),
        config=CONFIG,
    log:
        f"{R}/logs/bold_series/{{dataset}}_{{subject}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Clean sub-{wildcards.subject} of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --subject {wildcards.subject} --raw {input.raw:q} --series {output.series:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule stage1:
    """Weights of the voxels, from the subjects that train."""
    input:
        script=ancient("workflow_scripts/stage1.py"),
        series=expand(f"{R}/bold/{{{{dataset}}}}/sub-{{subject}}_bold.npy", subject=SUBJECTS[:-1]),
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "connectors"]),
    output:
        folder=directory(f"{R}/stage1/{{dataset}}/model"),
    params:
        module=as_py_module(),
        code=code("stage1"),
        packages=packages("stage1"),
        settings=settings("stage1"),
        config=CONFIG,
    log:
        f"{R}/logs/stage1/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Train on {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --series {input.series:q} --models {input.models:q} --folder {output.folder:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule scores:
    """A score for each volume of the test subject."""
    input:
        script=ancient("workflow_scripts/scores.py"),
        series=f"{R}/bold/{{dataset}}/sub-03_bold.npy",
        stage1=rules.stage1.output.folder,
    output:
        scores=f"{R}/scores/{{dataset}}.parquet",
    params:
        module=as_py_module(),
        code=code("scores"),
        packages=packages("scores"),
        settings=settings("scores"),
        config=CONFIG,
    log:
        f"{R}/logs/scores/{{dataset}}.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Score {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --series {input.series:q} --stage1 {input.stage1:q} --scores {output.scores:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule tables:
    """Mean and interval of the scores."""
    input:
        script=ancient("workflow_scripts/tables.py"),
        scores=rules.scores.output.scores,
    output:
        csv=f"{R}/tables/{{dataset}}.csv",
        md=f"{R}/tables/{{dataset}}.md",
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
        "../envs/data.yaml"
    message:
        "Make the table of {wildcards.dataset}"
    shell:
        "python -m {params.module} --config {params.config:q} --dataset {wildcards.dataset} --scores {input.scores:q} --csv {output.csv:q} --md {output.md:q} 2>&1 | tee -a {log:q} {log:q}.attempts"


rule provenance:
    """Close the ledger, by the real program."""
    input:
        script=ancient("workflow_scripts/provenance.py"),
        report=expand(rules.tables.output.csv, dataset=DATASETS),
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
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    message:
        "Close the ledger"
    shell:
        "python -m {params.module} --config {params.config:q} --report {input.report:q} --html {output.html:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
