"""Write the report. Run by hand: `python -m workflow_scripts.report --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

INPUTS = (
    "tables differences tests left_out markdown latex scores labels frames stages sc_mbm retrieval maps reliability quality leakage "
    "descriptions"
)
SETTINGS = (
    "captioner.hub_name captioner.kind captioner.revision datasets.(names) datasets.*.description_column "
    "datasets.*.description_file datasets.*.fold_of datasets.*.leave_out datasets.*.simulated datasets.*.table datasets.*.title "
    "datasets.*.train_subjects datasets.*.validation_subjects decoding.controls evaluation.bertscore_model "
    "evaluation.bootstrap_samples evaluation.permutations evaluation.significance seed simulation.snr stage2.adaptation "
    "video_llama.connectors video_llama.do_sample video_llama.llm video_llama.visual_encoder"
)


@program("report", settings=SETTINGS, inputs=INPUTS)
def main(config: Config, html: Output, **inputs: Inputs) -> None:
    """Write the report."""
    from boldscribe.report.page import write_report

    write_report(config, inputs, html)


if __name__ == "__main__":
    main()
