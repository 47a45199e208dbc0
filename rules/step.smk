"""Base rule of all steps: a step is `use rule step as NAME with:` its own keywords, and a program of that name in workflow_scripts/."""


rule step:
    """Run a step's program on its files; this base rule has no files."""
    params:
        run="python -m",
        config=CONFIG,
        options=options,
    log:
        f"{R}/logs/step.log",
    threads: 1
    resources:
        mem_mb=memory(1000, 1000),
        runtime=minutes(30, 30),
    conda:
        "../envs/data.yaml"
    shell:
        "{params.run} workflow_scripts.{params.step} --config {params.config:q} {params.options:q} --threads {threads} --memory-mb {resources.mem_mb}"
        " 2>&1 | tee -a {log:q} {log:q}.attempts"
