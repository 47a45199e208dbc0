"""Render the clips of a simulated data set and write its data-set-level BIDS files.

Run by hand: `python -m workflow_scripts.simulate_stimuli --help`.
"""

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"stimuli": "folder of clips", "description": "dataset_description.json"}


@program("simulate_stimuli", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset",))
def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None:
    """Render the clips of a simulated data set and write its data-set-level BIDS files."""
    from boldscribe.simulation.dataset import simulate_stimuli

    outputs.use("dataset_files", simulate_stimuli(config, dataset))


if __name__ == "__main__":
    main()
