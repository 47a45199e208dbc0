# BOLD in, words out, every number accountable: from raw BIDS fMRI and stimulus videos to the paper's two tables.
#   snakemake --profile profiles/demo      the embedded default, on a laptop
#   snakemake --profile slurm              the paper's experiment, on a cluster
#   snakemake -n                           a dry run


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/site.smk"
include: "rules/common.smk"
include: "rules/files.smk"
include: "rules/folds.smk"
include: "rules/references.smk"
include: "rules/params.smk"
include: "rules/step.smk"
include: "rules/data.smk"
include: "rules/preprocessing.smk"
include: "rules/stimuli.smk"
include: "rules/training.smk"
include: "rules/decoding.smk"
include: "rules/evaluation.smk"
include: "rules/quality.smk"
include: "rules/report.smk"


localrules:
    all,
    check_preprocessing,
    fetch_dataset,
    fetch_model,


rule all:
    input:
        of_tables(rules.tables.output.md),
        expand([RETRIEVAL, INFORMATION, QUALITY, LEAKAGE, RELIABILITY], dataset=FOLDS),
        f"{R}/report.html",
        f"{R}/provenance.html",
    default_target: True


REQUESTS.everywhere(workflow.rules)
set_params_by_name(workflow.rules)


onstart:
    start_on_site()
    write_run(experiment, [f"{workflow.basedir}/config.yaml", *EXPERIMENT], dict(workflow.config_settings.config))
    tell_missing([(job.rule.name, dict(job.wildcards)) for job in workflow.dag.needrun_jobs()])
    chosen = write_jobs(experiment, workflow)
    hooks.begin(experiment, Path.cwd(), chosen, workflow.resource_settings.nodes, workflow.output_settings.quiet)


onsuccess:
    hooks.succeed(experiment, Path.cwd())


onerror:
    hooks.fail(experiment, Path.cwd())
