"""Simulate one subject's T1w and BOLD while watching the clips. Run by hand: `python -m workflow_scripts.simulate_subject --help`."""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"stimuli": "folder of rendered clips"}
OUTPUTS = {"out": "the subject's folder"}


@program("simulate_subject", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "subject"))
def main(config: Config, inputs: Files, outputs: Files, dataset: str, subject: str) -> None:
    """Simulate one subject's T1w and BOLD while watching the clips."""
    from boldscribe.preprocessing.template import template_files
    from boldscribe.simulation.dataset import simulate_subject

    simulate_subject(config, dataset, subject)
    inputs.use("template", template_files())


if __name__ == "__main__":
    main()
