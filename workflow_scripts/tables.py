"""Make the paper's table of a data set, next to the published values and the controls.

Run by hand: `python -m workflow_scripts.tables --help`.
"""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {
    "scores": "scores of all subjects and conditions",
    "pairs": "scores of each text against the reference of each trial with the same instruction",
    "labels": "labels of all subjects",
    "excluded": "excluded trials of all subjects",
    "leakage": "what test trials share with training; a strict run that shares any clip or source gets no table",
}
OUTPUTS = {
    "csv": "table as CSV",
    "md": "table as Markdown",
    "tex": "table as LaTeX",
    "differences": "model minus controls (CSV)",
    "tests": "permutation tests (CSV)",
    "left_out": "excluded trials, with the reason (CSV)",
}


@program("tables", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Make the paper's table of a data set, next to the published values and the controls."""
    from boldscribe.evaluation.tables import make_tables

    make_tables(
        config,
        dataset,
        scores=inputs["scores"],
        pairs=inputs["pairs"],
        labels=inputs["labels"],
        excluded=inputs["excluded"],
        csv=outputs.one("csv"),
        md=outputs.one("md"),
        tex=outputs.one("tex"),
        differences=outputs.one("differences"),
        tests=outputs.one("tests"),
        left_out=outputs.one("left_out"),
    )


if __name__ == "__main__":
    main()
