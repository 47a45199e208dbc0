"""Make the paper's table of a data set, next to the published values and the controls.

Run by hand: `python -m workflow_scripts.tables --help`.
"""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = (
    "captioner.hub_name captioner.kind captioner.revision datasets.*.description_column datasets.*.description_file "
    "datasets.*.fold_of datasets.*.leave_out datasets.*.simulated datasets.*.table datasets.*.title datasets.*.train_subjects "
    "datasets.*.validation_subjects decoding.controls evaluation.bertscore_model evaluation.bootstrap_samples "
    "evaluation.permutations evaluation.significance seed simulation.snr stage2.adaptation video_llama.connectors "
    "video_llama.do_sample video_llama.llm video_llama.visual_encoder"
)


@program("tables", settings=SETTINGS)
def main(
    config: Config,
    dataset: str,
    references: str,
    scores: Inputs,
    pairs: Inputs,
    labels: Inputs,
    excluded: Inputs,
    leakage: Inputs,
    descriptions: Inputs,
    csv: Output,
    md: Output,
    tex: Output,
    differences: Output,
    tests: Output,
    left_out: Output,
) -> None:
    """Make the paper's table of a data set, next to the published values and the controls."""
    from boldscribe.evaluation.tables import make_tables

    make_tables(
        config,
        dataset,
        references,
        scores=scores,
        pairs=pairs,
        labels=labels,
        excluded=excluded,
        csv=csv,
        md=md,
        tex=tex,
        differences=differences,
        tests=tests,
        left_out=left_out,
    )


if __name__ == "__main__":
    main()
