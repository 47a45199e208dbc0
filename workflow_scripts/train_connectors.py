"""Train the miniature Video-LLaMA's connectors. Run by hand: `python -m workflow_scripts.train_connectors --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.provenance.program import Files, program

INPUTS = {"models": "folders of the LLM, the visual encoder and the sentence encoder"}
OUTPUTS = {"folder": "connectors, their record and README"}


@program("train_connectors", inputs=INPUTS, outputs=OUTPUTS, work=True)
def main(config: Config, inputs: Files, outputs: Files, work: Path) -> None:
    """Train the miniature Video-LLaMA's connectors on rendered clips that no data set uses."""
    from boldscribe.training.connectors import train_connectors

    train_connectors(config, models_dir=inputs["models"][0].parent, out_dir=outputs.one("folder"), work_dir=work)


if __name__ == "__main__":
    main()
