"""Training of the miniature Video-LLaMA's connectors. They are committed, so no table asks for this rule: `make connectors`."""


rule train_connectors:
    """Q-Formers and projection between the frozen visual encoder and the frozen LLM, on rendered clips of no data set."""
    input:
        script=ancient("workflow_scripts/train_connectors.py"),
        models=expand(f"{R}/models/{{asset}}", asset=["llm", "visual_encoder", "sentence_encoder"]),
    output:
        folder=directory(f"{R}/connectors"),
    params:
        module=as_py_module(),
        code=code("train_connectors"),
        packages=packages("train_connectors"),
        settings=settings("train_connectors"),
        config=CONFIG,
        work=f"{R}/work/connectors",
    log:
        f"{R}/logs/train_connectors.log",
    threads: 1
    resources:
        mem_mb=memory(8000, 4000),
        runtime=minutes(240, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Train the connectors of the miniature Video-LLaMA"
    shell:
        "python -m {params.module} --config {params.config:q} --models {input.models:q} --work {params.work:q}"
        " --folder {output.folder:q} 2>&1 | tee -a {log:q} {log:q}.attempts"
