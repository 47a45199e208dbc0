# BOLD in, words out, every number accountable: from raw BIDS fMRI and stimulus videos to the paper's two tables.
#
#   snakemake --profile profiles/demo      the embedded default, on a laptop
#   snakemake --profile slurm              the paper's experiment, on a cluster
#   snakemake -n                           what would be run


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/site.smk"
include: "rules/common.smk"
include: "rules/files.smk"
include: "rules/folds.smk"
include: "rules/fetch.smk"
include: "rules/preprocess.smk"
include: "rules/trials.smk"
include: "rules/stimuli.smk"
include: "rules/captions.smk"
include: "rules/connectors.smk"
include: "rules/controls.smk"
include: "rules/stage1.smk"
include: "rules/fmri_tokens.smk"
include: "rules/encoder.smk"
include: "rules/stage2.smk"
include: "rules/decode.smk"
include: "rules/evaluate.smk"
include: "rules/reliability.smk"
include: "rules/leakage.smk"
include: "rules/report.smk"


localrules:
    all,
    check_preprocessing,
    fetch_dataset,
    fetch_model,


rule all:
    input:
        expand(f"{R}/tables/{{dataset}}.md", dataset=DATASETS),
        expand([RETRIEVAL, INFORMATION, QUALITY, LEAKAGE, RELIABILITY], dataset=FOLDS),
        f"{R}/report.html",
        f"{R}/provenance.html",
    default_target: True


REQUESTS.everywhere(workflow.rules)


onstart:
    start_on_site()
    write_run(experiment, [f"{workflow.basedir}/config.yaml", *EXPERIMENT], dict(workflow.config_settings.config))
    tell_missing([(job.rule.name, dict(job.wildcards)) for job in workflow.dag.needrun_jobs()])
    hooks.begin(experiment, Path.cwd(), log, workflow.resource_settings.nodes, workflow.output_settings.quiet)


onsuccess:
    hooks.succeed(experiment, Path.cwd())


onerror:
    hooks.fail(experiment, Path.cwd())
